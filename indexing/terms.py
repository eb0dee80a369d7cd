"""The forward term table: which terms each row has and how often, so that any row can be scored exactly."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.analysis import build_analyzer, runs
from indexing.columns import read_columns, write_columns
from indexing.spans import spans

MAX_COUNT = np.iinfo(np.uint8).max
Rows = NDArray[np.int64]

_FILE = "terms.col"
_ROWS_A_SLICE = 16_384


def term_key(term: str) -> int:
    """The 64-bit name under which a term stands in a table."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class TermTable:
    """Row r has the entries `starts[r]:starts[r + 1]` of `ordinals` and `counts`.

    An ordinal is a place in `vocabulary`, the sorted keys of the table's terms. Within a row the ordinals
    rise, so that a sum over a row's terms is taken in the same order in every table, to the last bit.
    `counts` says how often the term stands in the row, 255 standing for more; `lengths` counts all terms
    of a row.
    """

    vocabulary: NDArray[np.uint64]
    starts: NDArray[np.int64]
    ordinals: NDArray[np.uint32]
    counts: NDArray[np.uint8]
    lengths: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def gather(cls, tables: Sequence[TermTable], owners: Rows, rows: Rows) -> TermTable:
        """Row r is row `rows[r]` of table `owners[r]`; the vocabulary has only what the rows use.

        Works in slices: beside the result it needs little.
        """
        sizes = np.empty(len(rows), dtype=np.int64)
        for number, table in enumerate(tables):
            of_table = owners == number
            sizes[of_table] = table.starts[rows[of_table] + 1] - table.starts[rows[of_table]]
        starts = _starts(sizes)
        used = [np.zeros(len(table.vocabulary), dtype=np.bool_) for table in tables]
        for number, places, _ in _slices(tables, owners, rows, starts):
            used[number][tables[number].ordinals[places]] = True
        vocabulary = reduce(np.union1d, (table.vocabulary[u] for table, u in zip(tables, used, strict=True)))
        ordinal_of = [np.searchsorted(vocabulary, table.vocabulary).astype(np.uint32) for table in tables]
        ordinals = np.empty(starts[-1], dtype=np.uint32)
        counts = np.empty(starts[-1], dtype=np.uint8)
        for number, places, targets in _slices(tables, owners, rows, starts):
            ordinals[targets] = ordinal_of[number][tables[number].ordinals[places]]
            counts[targets] = tables[number].counts[places]
        lengths = np.empty(len(rows), dtype=np.uint32)
        for number, table in enumerate(tables):
            lengths[owners == number] = table.lengths[rows[owners == number]]
        return cls(vocabulary=vocabulary, starts=starts, ordinals=ordinals, counts=counts, lengths=lengths)

    def save(self, directory: Path) -> None:
        write_columns(directory / _FILE, {item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def load(cls, directory: Path) -> TermTable:
        return cls(**read_columns(directory / _FILE))


def _slices(
    tables: Sequence[TermTable], owners: Rows, rows: Rows, starts: Rows
) -> Iterator[tuple[int, Rows, Rows]]:
    """For some rows of one table at a time: its number, where their entries stand there, and where here."""
    for first in range(0, len(rows), _ROWS_A_SLICE):
        part = slice(first, first + _ROWS_A_SLICE)
        for number, table in enumerate(tables):
            of_table = owners[part] == number
            taken = rows[part][of_table]
            sizes = table.starts[taken + 1] - table.starts[taken]
            yield number, spans(table.starts[taken], sizes), spans(starts[:-1][part][of_table], sizes)


class TermTableBuilder:
    """Collects the terms of one row after another."""

    def __init__(self) -> None:
        self._numbers = _Numbers()
        self._runs = array("I")
        self._sizes = array("I")

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, text: str) -> None:
        found = runs(text)
        self._runs.extend(map(self._numbers.__getitem__, found))
        self._sizes.append(len(found))

    def build(self) -> TermTable:
        vocabulary, run_starts, ordinals = self._analyzed()
        bounds = _starts(np.array(self._sizes, dtype=np.uint32))
        numbers = np.array(self._runs, dtype=np.uint32)
        parts = []
        for first in range(0, max(len(self), 1), _ROWS_A_SLICE):
            ends = bounds[first : first + _ROWS_A_SLICE + 1]
            taken = numbers[ends[0] : ends[-1]]
            starts, sizes = run_starts[taken], run_starts[taken + 1] - run_starts[taken]
            lengths = np.diff(_starts(sizes)[ends - ends[0]])
            parts.append(_counted(ordinals[spans(starts, sizes)], lengths))
        n_entries, entries, counts, lengths = (
            np.concatenate(columns) for columns in zip(*parts, strict=True)
        )
        return TermTable(
            vocabulary=vocabulary,
            starts=_starts(n_entries),
            ordinals=entries,
            counts=counts,
            lengths=lengths,
        )

    def _analyzed(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint32]]:
        """The vocabulary, and the ordinals of the terms of every run, one run after another with starts."""
        analyzer = build_analyzer()
        terms_of = [analyzer.analyze(run.decode()) for run in self._numbers]
        key_of = {term: term_key(term) for terms in terms_of for term in terms}
        keys = np.fromiter((key_of[term] for terms in terms_of for term in terms), np.uint64)
        vocabulary, ordinals = np.unique(keys, return_inverse=True)
        sizes = np.fromiter(map(len, terms_of), np.int64, count=len(terms_of))
        return vocabulary, _starts(sizes), ordinals.astype(np.uint32)


def _counted(
    ordinals: NDArray[np.uint32], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint32]]:
    """The columns of rows whose terms stand one row after another: entries, ordinals, counts and lengths."""
    # One number for a row and a term: rows first, so that sorting gathers what goes together.
    keys = np.repeat(np.arange(len(lengths), dtype=np.uint64) << np.uint64(32), lengths)
    entries, counts = np.unique(keys | ordinals, return_counts=True)
    n_entries = np.bincount(entries >> np.uint64(32), minlength=len(lengths))
    counts = np.minimum(counts, MAX_COUNT).astype(np.uint8)
    return n_entries, entries.astype(np.uint32), counts, lengths.astype(np.uint32)


class _Numbers(dict[bytes, int]):
    """Numbers the runs in the order in which they are first asked for."""

    def __missing__(self, run: bytes) -> int:
        self[run] = number = len(self)
        return number


def _starts(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
