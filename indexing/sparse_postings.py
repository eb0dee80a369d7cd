"""The sparse vectors of a segment turned round: for every term the rows that have it, and how strongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.columns import Column, Streamed, read_columns, write_columns
from indexing.errors import IndexDamaged
from indexing.sparse_codes import Levels, Rows, SparseCodes, Terms, starts_of
from indexing.types import Floats

FILE = "sparse.col"
MAX_ROWS = 2**24
# Entries turned round at once: bounds what is needed beside the sources.
_ENTRIES_A_SLICE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SparsePostings:
    """Term `vocabulary[t]` stands in the rows `rows[starts[t]:starts[t + 1]]`, which rise, with `levels`.

    `scales` has an entry for every row: times a level it is the weight. In memory or mapped.
    """

    vocabulary: Terms
    starts: Rows
    rows: NDArray[np.uint32]
    levels: Levels
    scales: Floats

    def __len__(self) -> int:
        return len(self.scales)

    @classmethod
    def of(cls, codes: SparseCodes) -> SparsePostings:
        owners = np.repeat(np.arange(len(codes), dtype=np.uint32), np.diff(codes.starts))
        order = np.argsort(codes.terms, kind="stable")
        vocabulary, sizes = np.unique(codes.terms, return_counts=True)
        return cls(
            vocabulary=vocabulary,
            starts=starts_of(sizes),
            rows=owners[order],
            levels=codes.levels[order],
            scales=codes.scales,
        )

    def forward(self, rows: Rows) -> SparseCodes:
        """The codes of some rows; looks at every entry."""
        place_of = np.full(len(self), -1, dtype=np.int64)
        place_of[rows] = np.arange(len(rows))
        places = place_of[self.rows]
        kept = places >= 0
        terms = np.repeat(self.vocabulary, np.diff(self.starts))[kept]
        order = np.argsort(places[kept], kind="stable")
        sizes = np.bincount(places[kept], minlength=len(rows))
        return SparseCodes(
            terms=terms[order],
            levels=self.levels[kept][order],
            starts=starts_of(sizes),
            scales=self.scales[rows],
        )

    @classmethod
    def load(cls, directory: Path, n_rows: int) -> SparsePostings:
        """The postings of a segment, mapped. Raises IndexDamaged if they are not those of as many rows."""
        columns = read_columns(directory / FILE)
        postings = cls(**columns)
        n_entries = int(postings.starts[-1]) if len(postings.starts) else -1
        whole = len(postings.starts) == len(postings.vocabulary) + 1 and len(postings) == n_rows
        if not whole or {len(postings.rows), len(postings.levels)} != {n_entries}:
            raise IndexDamaged(f"{directory / FILE} holds the postings of other rows than {n_rows}.")
        return postings

    def is_sound(self) -> bool:
        """Whether terms and rows rise, and every entry points to a row and counts for something."""
        same_term = np.ones(len(self.rows), dtype=np.bool_)
        same_term[self.starts[:-1]] = False
        return bool(
            (np.diff(self.vocabulary.astype(np.int64)) > 0).all()
            and self.starts[0] == 0
            and (np.diff(self.starts) > 0).all()
            and (self.rows[1:] > self.rows[:-1])[same_term[1:]].all()
            and (self.rows < len(self)).all()
            and (self.levels > 0).all()
            and np.isfinite(self.scales).all()
            and (self.scales >= 0).all()
        )


def write_sparse_postings(
    directory: Path, sources: Sequence[SparsePostings], owners: Rows, rows: Rows, pause: Callable[[], None]
) -> None:
    """Writes the file of a segment whose row r is row `rows[r]` of source `owners[r]`, slice by slice.

    Raises ValueError for more than 16,777,216 rows.
    """
    if len(rows) > MAX_ROWS:
        raise ValueError(f"A segment of {len(rows)} rows is too long: {MAX_ROWS} are possible.")
    place_of = [np.full(len(source), -1, dtype=np.int64) for source in sources]
    scales = np.empty(len(rows), dtype=np.float32)
    for number, source in enumerate(sources):
        of_source = np.flatnonzero(owners == number)
        place_of[number][rows[of_source]] = of_source
        scales[of_source] = source.scales[rows[of_source]]
    everything = reduce(np.union1d, (source.vocabulary for source in sources))
    slices = list(_slices(sources, everything))
    sizes = np.zeros(len(everything), dtype=np.int64)
    for first, last in slices:
        pause()
        terms, _, _ = _turned(sources, place_of, everything[first:last])
        sizes[first:last] = np.bincount(terms, minlength=last - first)
    n_entries = int(sizes.sum())

    def parts(column: int) -> Iterator[Column]:
        for first, last in slices:
            pause()
            yield _turned(sources, place_of, everything[first:last])[column]

    columns: dict[str, Column | Streamed] = {
        "vocabulary": everything[sizes > 0],
        "starts": starts_of(sizes[sizes > 0]),
        "rows": Streamed(dtype=np.dtype("<u4"), length=n_entries, parts=parts(1)),
        "levels": Streamed(dtype=np.dtype(np.uint8), length=n_entries, parts=parts(2)),
        "scales": scales,
    }
    write_columns(directory / FILE, columns)


def _slices(sources: Sequence[SparsePostings], vocabulary: Terms) -> Iterator[tuple[int, int]]:
    """Runs of terms with no more entries than may be in hand at once, but one term at least."""
    sizes = np.zeros(len(vocabulary), dtype=np.int64)
    for source in sources:
        sizes[np.searchsorted(vocabulary, source.vocabulary)] += np.diff(source.starts)
    ends = np.cumsum(sizes)
    first = 0
    while first < len(vocabulary):
        before = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, before + _ENTRIES_A_SLICE, side="right"))
        yield first, max(last, first + 1)
        first = max(last, first + 1)


def _turned(
    sources: Sequence[SparsePostings], place_of: Sequence[Rows], vocabulary: Terms
) -> tuple[NDArray[np.int64], NDArray[np.uint32], Levels]:
    """The entries of some terms, by term and row: the number of the term, the new row, the level."""
    terms, rows, levels = [], [], []
    for source, places in zip(sources, place_of, strict=True):
        first, last = np.searchsorted(source.vocabulary, [vocabulary[0], vocabulary[-1] + np.uint32(1)])
        part = slice(source.starts[first], source.starts[last])
        new = places[source.rows[part]]
        numbers = np.searchsorted(vocabulary, source.vocabulary[first:last])
        terms.append(np.repeat(numbers, np.diff(source.starts[first : last + 1]))[new >= 0])
        rows.append(new[new >= 0])
        levels.append(source.levels[part][new >= 0])
    all_terms, all_rows = np.concatenate(terms).astype(np.int64), np.concatenate(rows)
    order = np.argsort(all_terms << 24 | all_rows)
    return all_terms[order], all_rows[order].astype(np.uint32), np.concatenate(levels)[order]
