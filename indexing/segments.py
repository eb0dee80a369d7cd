"""Segments: immutable directories of rows, one row per chunk, sorted by chunk id.

A row is a chunk id, its document id, its vector and its terms. Rows die by a tombstone kept outside; merging
segments leaves the dead rows out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.files import load_array
from indexing.found import Found
from indexing.manifest import SegmentKind
from indexing.postings import Postings
from indexing.terms import TermTable
from indexing.types import Floats, Ids
from indexing.vectors import Halves, Mask, VectorStore, write_vectors

MAX_SEGMENT_ROWS = 2**19
MIN_SEGMENT_ROWS = 2048
MAX_DEAD_SHARE = 0.25
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRows:
    """The content of a segment, in memory."""

    chunk_ids: Ids
    document_ids: Ids
    vectors: Halves
    terms: TermTable

    def __len__(self) -> int:
        return len(self.chunk_ids)

    @classmethod
    def merge(cls, parts: Sequence[SegmentRows]) -> SegmentRows:
        """All rows, sorted by chunk id."""
        if len(parts) == 1 and (np.diff(parts[0].chunk_ids) > 0).all():
            return parts[0]
        chunk_ids = np.concatenate([part.chunk_ids for part in parts])
        order = np.argsort(chunk_ids, kind="stable")
        return cls(
            chunk_ids=chunk_ids[order],
            document_ids=np.concatenate([part.document_ids for part in parts])[order],
            vectors=np.concatenate([part.vectors for part in parts])[order],
            terms=TermTable.concatenate([part.terms for part in parts]).take(order),
        )

    def write(self, directory: Path) -> SegmentKind:
        """Writes the files; the rows must be sorted by chunk id."""
        np.save(directory / "chunks.npy", self.chunk_ids, allow_pickle=False)
        np.save(directory / "documents.npy", self.document_ids, allow_pickle=False)
        self.terms.save(directory)
        Postings.build(self.terms).save(directory)
        coded = write_vectors(directory, [self.vectors], *self.vectors.shape)
        return "rabitq" if coded else "flat"


class Segment:
    """An open segment with the rows that are dead in this snapshot. Safe to use from several threads."""

    def __init__(self, name: str, directory: Path, kind: SegmentKind, dim: int, dead: Rows) -> None:
        self.name = name
        self.chunk_ids: Ids = load_array(directory / "chunks.npy")
        self.document_ids: Ids = load_array(directory / "documents.npy")
        self.terms = TermTable.load(directory)
        self.postings = Postings.load(directory)
        self.vectors = VectorStore(directory, len(self), dim, coded=kind == "rabitq")
        self.dead = dead
        self.live: Mask | None = None
        if len(dead):
            self.live = np.ones(len(self), dtype=np.bool_)
            self.live[dead] = False

    def __len__(self) -> int:
        return len(self.chunk_ids)

    @property
    def n_live(self) -> int:
        return len(self) - len(self.dead)

    @cached_property
    def live_rows(self) -> Rows:
        return np.arange(len(self)) if self.live is None else np.flatnonzero(self.live)

    @cached_property
    def n_tokens(self) -> int:
        """Tokens of the live rows."""
        lengths = self.terms.lengths
        return int(lengths.sum(dtype=np.int64) - lengths[self.dead].sum(dtype=np.int64))

    def find(self, chunk_ids: Ids) -> Rows:
        """The live row of every chunk, -1 where there is none."""
        rows = np.searchsorted(self.chunk_ids, chunk_ids)
        rows[rows == len(self)] = 0
        hit = self.chunk_ids[rows] == chunk_ids
        if self.live is not None:
            hit &= self.live[rows]
        return np.where(hit, rows, -1)

    def rows_of_documents(self, document_ids: Ids) -> Rows:
        """The live rows of the documents (sorted ids), in no promised order."""
        documents, starts, order = self._by_document
        places = np.searchsorted(documents, document_ids)
        places[places == len(documents)] = 0
        places = places[documents[places] == document_ids]
        parts = [order[starts[place] : starts[place + 1]] for place in places]
        rows = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        return rows if self.live is None else rows[self.live[rows]]

    def mask_of_documents(self, document_ids: Ids) -> Mask:
        """Which rows are live and belong to one of the documents (sorted ids)."""
        documents, starts, order = self._by_document
        wanted = np.isin(documents, document_ids, assume_unique=True)
        mask = np.empty(len(self), dtype=np.bool_)
        mask[order] = np.repeat(wanted, np.diff(starts))
        if self.live is not None:
            mask &= self.live
        return mask

    @property
    def live_documents(self) -> Ids:
        """The documents with a live row, sorted."""
        return np.unique(self.document_ids[self.live_rows])

    def found(self, rows: Rows, scores: Floats) -> Found:
        return Found(chunk_ids=self.chunk_ids[rows], document_ids=self.document_ids[rows], scores=scores)

    def read(self) -> SegmentRows:
        """The live rows, in memory."""
        rows = self.live_rows
        return SegmentRows(
            chunk_ids=self.chunk_ids[rows],
            document_ids=self.document_ids[rows],
            vectors=self.vectors.halves[rows],
            terms=self.terms.take(rows),
        )

    @cached_property
    def _by_document(self) -> tuple[Ids, Rows, Rows]:
        """Distinct document ids, where each begins in the order, and the rows ordered by document."""
        order = np.argsort(self.document_ids, kind="stable")
        documents, starts = np.unique(self.document_ids[order], return_index=True)
        return documents, np.append(starts, len(order)), order


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

    def documents(self) -> Ids:
        """The documents with a live row, sorted."""
        none = np.empty(0, dtype=np.int64)
        return np.unique(np.concatenate([none, *(segment.live_documents for segment in self.segments)]))


def plan_merges(sizes: Sequence[int], dead: Sequence[int]) -> list[list[int]]:
    """Which segments to write anew as one: lists of their numbers; `sizes` counts live rows.

    Segments of similar size go together, so that each is at least twice as large as the next smaller and
    their number grows with the logarithm of the rows; a segment with many dead rows is written anew alone.

    >>> plan_merges([100_000, 300, 40], [0, 0, 0])
    [[1, 2]]
    >>> plan_merges([100_000, 60_000], [0, 0])
    [[0, 1]]
    >>> plan_merges([100_000, 20_000], [50_000, 0])
    [[0]]
    """
    groups: list[list[int]] = []
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        groups.append([number])
        while len(groups) > 1:
            last = sum(sizes[member] for member in groups[-1])
            before = sum(sizes[member] for member in groups[-2])
            if before >= max(2 * last, MIN_SEGMENT_ROWS) or before + last > MAX_SEGMENT_ROWS:
                break
            tail = groups.pop()
            groups[-1].extend(tail)
    return [
        group
        for group in groups
        if len(group) > 1 or dead[group[0]] > MAX_DEAD_SHARE * (sizes[group[0]] + dead[group[0]])
    ]
