"""Set operations on vectors: like these, and like those, but not like these others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.found import Found, best
from indexing.segments import Segment
from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from indexing.vectors import Rows

ROWS_A_BLOCK = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """Sets of vectors of length 1, each of shape (n, dim) with n at least 1; one set of either kind at least.

    Raises ValueError for no set, or an empty one.
    """

    like: tuple[Floats, ...] = ()
    unlike: tuple[Floats, ...] = ()

    def __post_init__(self) -> None:
        if not (self.like or self.unlike) or not all(len(s) for s in (*self.like, *self.unlike)):
            raise ValueError("Give at least one set, and at least one member in each.")

    def direction(self) -> NDArray[np.float64]:
        """The sum of the means of the sets that are liked, less those of the others; of any length.

        >>> east, north = np.eye(2, dtype=np.float32)
        >>> Operands(like=(np.stack([east, north]),), unlike=(north[None],)).direction().tolist()
        [0.5, -0.5]
        """
        means = [group.astype(np.float64).mean(axis=0) for group in (*self.like, *self.unlike)]
        signs = [1] * len(self.like) + [-1] * len(self.unlike)
        total = np.sum([sign * mean for sign, mean in zip(signs, means, strict=True)], axis=0)
        return np.asarray(total, dtype=np.float64)


def similar(
    snapshot: Snapshot,
    operands: Operands,
    top_k: int,
    *,
    allowed_documents: Ids | None = None,
    without_chunks: Sequence[int] = (),
    without_documents: Sequence[int] = (),
    by_document: bool = False,
) -> Found:
    """The chunks with the highest Σ_i SIM(x, S_i) − Σ_j SIM(x, C_j), best first, ties by chunk id.

    SIM(x, S) = mean_{s in S} cos(x, s): Liu et al. 2024, SetCSE, https://arxiv.org/abs/2404.17606, sections 3
    and 4. All vectors are of length 1, so the sum is one inner product with `Operands.direction`. Every
    allowed chunk is scored, block by block. By document, each counts with its best chunk.
    """
    direction = operands.direction().astype(np.float32)
    selection = snapshot.select(allowed_documents)
    left_out = np.array(sorted(without_chunks), dtype=np.int64)
    left_out_documents = np.array(sorted(without_documents), dtype=np.int64)
    found = best([], top_k)
    for segment, mask, _ in snapshot.segments.selected(selection):
        rows = np.flatnonzero(mask) if mask is not None else np.arange(len(segment))
        for start in range(0, len(rows), ROWS_A_BLOCK):
            block = _kept(segment, rows[start : start + ROWS_A_BLOCK], left_out, left_out_documents)
            scored = segment.found(block, segment.vectors.score(direction, block))
            merged = best([found, scored], len(found) + len(scored))
            found = (_best_of_documents(merged) if by_document else merged).head(top_k)
    return found


def stored_vectors(snapshot: Snapshot, chunk_ids: Ids) -> Floats:
    """The vectors of chunks, shape (n, dim), as the index has them but of length 1; KeyError for none."""
    vectors = np.empty((len(chunk_ids), snapshot.segments.dim), dtype=np.float32)
    for segment, positions, rows in snapshot.segments.located(chunk_ids):
        vectors[positions] = segment.vectors.halves[rows]
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def similarities(snapshot: Snapshot, operands: Operands, chunk_ids: Ids) -> dict[str, Floats]:
    """What each set adds to the score of each chunk, by `like 1`, `like 2`, `unlike 1` and so on."""
    found = {}
    for name, sign, groups in (("like", 1, operands.like), ("unlike", -1, operands.unlike)):
        for number, group in enumerate(groups, start=1):
            mean = group.astype(np.float64).mean(axis=0).astype(np.float32)
            found[f"{name} {number}"] = sign * snapshot.vectors.score(mean, chunk_ids)
    return found


def _kept(segment: Segment, rows: Rows, chunk_ids: Ids, document_ids: Ids) -> Rows:
    kept = ~np.isin(segment.chunk_ids[rows], chunk_ids)
    kept &= ~np.isin(segment.document_ids_of(rows), document_ids)
    return rows[kept]


def _best_of_documents(found: Found) -> Found:
    """The best chunk of each document, of chunks that come best first."""
    _, first = np.unique(found.document_ids, return_index=True)
    places = np.sort(first)
    return Found(
        chunk_ids=found.chunk_ids[places],
        document_ids=found.document_ids[places],
        scores=found.scores[places],
    )
