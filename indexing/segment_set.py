"""The open segments of a snapshot, and selections of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.segments import Segment
from indexing.types import Ids
from indexing.vectors import Mask, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Rows that a search may give: per segment a mask (None: every row) and the number of rows it allows."""

    masks: tuple[Mask | None, ...]
    sizes: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        return sum(self.sizes)


class SegmentSet:
    """The open segments of a snapshot. A chunk is live in at most one of them."""

    def __init__(self, segments: Sequence[Segment], dim: int) -> None:
        self.segments = tuple(segments)
        self.dim = dim
        self.everything = Selection(
            masks=tuple(segment.live for segment in self.segments),
            sizes=tuple(segment.n_live for segment in self.segments),
        )

    @property
    def n_live(self) -> int:
        return self.everything.n_rows

    def select(self, document_ids: Ids | None) -> Selection:
        """The live rows of the documents (sorted ids); None selects everything."""
        if document_ids is None:
            return self.everything
        masks = tuple(segment.mask_of_documents(document_ids) for segment in self.segments)
        return Selection(masks=masks, sizes=tuple(int(mask.sum()) for mask in masks))

    def selected(self, selection: Selection) -> Iterator[tuple[Segment, Mask | None, int]]:
        """The segments with something selected, each with its mask and the number of rows in it."""
        for segment, mask, size in zip(self.segments, selection.masks, selection.sizes, strict=True):
            if size:
                yield segment, mask, size

    def located(self, chunk_ids: Ids) -> Iterator[tuple[Segment, NDArray[np.int64], Rows]]:
        """For each segment that has any of the chunks: their positions in `chunk_ids` and their rows.

        Raises KeyError if a chunk is in none.
        """
        chunk_ids = np.asarray(chunk_ids, dtype=np.int64)
        missing = np.ones(len(chunk_ids), dtype=np.bool_)
        for segment in self.segments:
            rows = segment.find(chunk_ids)
            positions = np.flatnonzero(rows >= 0)
            if len(positions):
                missing[positions] = False
                yield segment, positions, rows[positions]
        if missing.any():
            raise KeyError(
                f"{missing.sum()} chunks are not in the index, the first is {chunk_ids[missing][0]}"
            )

    def present(self, chunk_ids: Ids) -> Mask:
        """Which of the chunks are in the index."""
        found = np.zeros(len(chunk_ids), dtype=np.bool_)
        for segment in self.segments:
            found |= segment.find(chunk_ids) >= 0
        return found

    def documents(self) -> Ids:
        """The documents with a live row, sorted."""
        none = np.empty(0, dtype=np.int64)
        return np.unique(np.concatenate([none, *(segment.live_documents for segment in self.segments)]))
