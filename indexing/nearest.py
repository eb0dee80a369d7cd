"""Nearest neighbours by inner product over all segments of a snapshot."""

from __future__ import annotations

from math import ceil

import numpy as np

from indexing.found import Found, best
from indexing.segment_set import SegmentSet, Selection
from indexing.segments import Segment
from indexing.types import Floats, Ids
from indexing.vectors import Mask, Rows, nearest_among

# Rows looked at in the fp16 store per row wanted, over all segments together (benchmarks/million.py).
REFINE_FACTOR = 20
# A filter is applied to the estimates, so many more are fetched that enough are left; beyond this share of a
# segment's rows an exact scan of the allowed ones is cheaper.
MAX_FETCHED_SHARE = 0.05
# A filter may thin the best rows more than the others.
FILTER_MARGIN = 1.3
# Every search asks for at least this many, so that a shorter result is a prefix of a longer one.
MIN_DEPTH = 128
# Fetched beyond the limit, so that most ties at the border are seen whole at once.
TIE_MARGIN = 8
# Sums of 1536 products differ by less than this between the engine's arithmetic and ours.
TIE_TOLERANCE = 1e-5


class VectorIndex:
    """Inner products over all live rows of a snapshot. Safe to use from several threads."""

    def __init__(self, segments: SegmentSet) -> None:
        self._segments = segments

    def search(self, vector: Floats, limit: int, selection: Selection | None = None) -> Found:
        """The `limit` best chunks, best first, ties by chunk id; fewer only if there are fewer.

        `vector` has shape (dim,). Raises ValueError for another shape. Exact, but for segments with codes,
        where recall is that of the one-bit scan.
        """
        self._check(vector)
        vector = np.ascontiguousarray(vector, dtype=np.float32)
        selection = selection or self._segments.everything
        depth = max(limit, MIN_DEPTH) + TIE_MARGIN
        while True:
            found = self._nearest(vector, depth, selection)
            seen_all = len(found) <= limit or depth >= selection.n_rows
            # what was not fetched is no better than the last that was
            if seen_all or found.scores[-1] < found.scores[limit - 1] - TIE_TOLERANCE:
                return found.head(limit)
            depth *= 4

    def score(self, vector: Floats, chunk_ids: Ids) -> Floats:
        """The inner product of every given chunk; raises KeyError for a chunk that is not there."""
        self._check(vector)
        scores = np.zeros(len(chunk_ids), dtype=np.float32)
        for segment, positions, rows in self._segments.located(chunk_ids):
            scores[positions] = segment.vectors.score(vector, rows)
        return scores

    def _nearest(self, vector: Floats, depth: int, selection: Selection) -> Found:
        parts, estimated = [], []
        for segment, mask, n_allowed in self._segments.selected(selection):
            candidates = _estimated(segment, vector, depth * REFINE_FACTOR, mask, n_allowed)
            if candidates is None:
                rows = segment.vectors.nearest(vector, depth, mask, n_allowed)
                parts.append(segment.found(rows, segment.vectors.score(vector, rows)))
            else:
                estimated.append((segment, *candidates))
        return best([*parts, *_refined(estimated, vector, depth)], depth)

    def _check(self, vector: Floats) -> None:
        dim = self._segments.dim
        if vector.shape != (dim,):
            raise ValueError(f"The query vector has shape {vector.shape}, the index needs ({dim},).")


def _estimated(
    segment: Segment, vector: Floats, n_wanted: int, mask: Mask | None, n_allowed: int
) -> tuple[Floats, Rows] | None:
    """The `n_wanted` allowed rows of highest estimates, or more; None where an exact search is better."""
    n_fetched = ceil(n_wanted * len(segment) / n_allowed * (FILTER_MARGIN if mask is not None else 1.0))
    if not segment.vectors.coded or n_fetched > MAX_FETCHED_SHARE * len(segment):
        return None
    estimates, rows = segment.vectors.estimate(vector, n_fetched)
    if mask is not None:
        kept = mask[rows]
        estimates, rows = estimates[kept], rows[kept]
    return (estimates, rows) if len(rows) >= n_wanted else None


def _refined(estimated: list[tuple[Segment, Floats, Rows]], vector: Floats, depth: int) -> list[Found]:
    """The `depth` best of the rows with the highest estimates, of all segments together."""
    if not estimated:
        return []
    owners = np.repeat(np.arange(len(estimated)), [len(rows) for _, _, rows in estimated])
    estimates = np.concatenate([estimates for _, estimates, _ in estimated])
    all_rows = np.concatenate([rows for _, _, rows in estimated])
    if len(estimates) > (n_wanted := depth * REFINE_FACTOR):
        chosen = np.argpartition(-estimates, n_wanted)[:n_wanted]
        # Segment by segment, each in the order of the disk.
        chosen = chosen[np.lexsort((all_rows[chosen], owners[chosen]))]
        owners, all_rows = owners[chosen], all_rows[chosen]
    halves = [segment.vectors.halves[all_rows[owners == n]] for n, (segment, _, _) in enumerate(estimated)]
    nearest = nearest_among(vector, np.concatenate(halves), depth)
    parts = []
    for number, (segment, _, _) in enumerate(estimated):
        rows = all_rows[nearest[owners[nearest] == number]]
        parts.append(segment.found(rows, segment.vectors.score(vector, rows)))
    return parts
