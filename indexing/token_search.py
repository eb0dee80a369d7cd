"""The best chunks by late interaction over all segments of a snapshot."""

from __future__ import annotations

import numpy as np

from indexing.found import Found, best
from indexing.segment_set import SegmentSet, Selection
from indexing.segments import Segment
from indexing.token_codec import TokenCodec
from indexing.token_products import best_products
from indexing.types import Floats
from indexing.vectors import Mask, Rows

# Of the rows of all segments with lists, so many are scored exactly: one of so many, within bounds, or more
# where many hits are wanted (docs/decisions/0021 has what fewer find).
ROWS_A_CANDIDATE = 16
MIN_CANDIDATES, MAX_CANDIDATES = 1024, 8192
CANDIDATES_A_HIT = 4
_ROWS_A_BLOCK = 4096


def search_tokens(
    segments: SegmentSet,
    codec: TokenCodec,
    vectors: Floats,
    weights: Floats,
    limit: int,
    selection: Selection | None = None,
) -> Found:
    """The `limit` best chunks by Σ_i w_i max_j ⟨q_i, d_j⟩, best first, ties by chunk id.

    `vectors` has shape (n, dim), each of length 1, `weights` shape (n,). Exact for segments without lists and
    where a selection allows few rows; else the best by their lists are scored exactly.
    """
    selected = list(segments.selected(selection or segments.everything))
    depth = _depth(sum(size for segment, _, size in selected if segment.token_lists is not None), limit)
    narrowed = [
        _narrowed(segment, mask, vectors, weights, depth)
        if segment.token_lists is not None and size > depth
        else (_rows_of(segment, mask), None)
        for segment, mask, size in selected
    ]
    border = _border([estimates for _, estimates in narrowed if estimates is not None], depth)
    parts = []
    for (segment, _, _), (rows, estimates) in zip(selected, narrowed, strict=True):
        candidates = rows if estimates is None else rows[estimates >= border]
        scores = _scores(segment, codec, vectors, weights, np.sort(candidates))
        parts.append(segment.found(np.sort(candidates), scores))
    return best(parts, limit)


def _depth(n_rows: int, limit: int) -> int:
    share = min(max(n_rows // ROWS_A_CANDIDATE, MIN_CANDIDATES), MAX_CANDIDATES)
    return max(share, CANDIDATES_A_HIT * limit)


def _narrowed(
    segment: Segment, mask: Mask | None, vectors: Floats, weights: Floats, depth: int
) -> tuple[Rows, Floats]:
    """The `depth` allowed rows with the highest estimates, and those."""
    assert segment.token_lists is not None
    estimates = segment.token_lists.estimate(vectors, weights, len(segment))
    if mask is not None:
        estimates[~mask] = -np.inf
    rows = np.argpartition(-estimates, depth)[:depth]
    return rows, estimates[rows]


def _border(estimates: list[Floats], depth: int) -> float:
    """The estimate that the `depth` best of all segments have or exceed."""
    joined = np.concatenate([np.empty(0, dtype=np.float32), *estimates])
    if len(joined) <= depth:
        return -np.inf
    return float(np.partition(joined, len(joined) - depth)[len(joined) - depth])


def _rows_of(segment: Segment, mask: Mask | None) -> Rows:
    return np.arange(len(segment)) if mask is None else np.flatnonzero(mask)


def _scores(segment: Segment, codec: TokenCodec, vectors: Floats, weights: Floats, rows: Rows) -> Floats:
    assert segment.tokens is not None
    scores = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _ROWS_A_BLOCK):
        block = slice(start, start + _ROWS_A_BLOCK)
        scores[block] = best_products(vectors, segment.tokens.take(rows[block]), codec) @ weights
    return scores
