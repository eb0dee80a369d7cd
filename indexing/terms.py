"""The forward term table: which terms each row has and how often, so that any row can be scored exactly."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.analysis import build_analyzer, runs
from indexing.files import load_array

MAX_COUNT = np.iinfo(np.uint8).max
Rows = NDArray[np.int64]


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

    def entries(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the rows' entries, and for each the position in `rows` of the row it belongs to."""
        starts = self.starts[rows]
        sizes = self.starts[rows + 1] - starts
        return _spans(starts, sizes), np.repeat(np.arange(len(rows)), sizes)

    def take(self, rows: Rows) -> TermTable:
        """The given rows in the given order; the vocabulary keeps only what they use."""
        places, _ = self.entries(rows)
        sizes = self.starts[rows + 1] - self.starts[rows]
        ordinals = self.ordinals[places]
        used = np.zeros(len(self.vocabulary), dtype=np.bool_)
        used[ordinals] = True
        return TermTable(
            vocabulary=self.vocabulary[used],
            starts=_starts(sizes),
            ordinals=(np.cumsum(used) - 1).astype(np.uint32)[ordinals],
            counts=self.counts[places],
            lengths=self.lengths[rows],
        )

    @classmethod
    def concatenate(cls, tables: Sequence[TermTable]) -> TermTable:
        """The rows of the tables, one table after another."""
        vocabulary = reduce(np.union1d, (table.vocabulary for table in tables))
        ordinals = []
        for table in tables:
            places = np.searchsorted(vocabulary, table.vocabulary)
            ordinals.append(places.astype(np.uint32)[table.ordinals])
        return cls(
            vocabulary=vocabulary,
            starts=_starts(np.concatenate([np.diff(table.starts) for table in tables])),
            ordinals=np.concatenate(ordinals),
            counts=np.concatenate([table.counts for table in tables]),
            lengths=np.concatenate([table.lengths for table in tables]),
        )

    def save(self, directory: Path) -> None:
        for item in fields(self):
            np.save(directory / f"terms-{item.name}.npy", getattr(self, item.name), allow_pickle=False)

    @classmethod
    def load(cls, directory: Path) -> TermTable:
        return cls(**{item.name: load_array(directory / f"terms-{item.name}.npy") for item in fields(cls)})


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
        analyzer = build_analyzer()
        terms_of = [analyzer.analyze(run.decode()) for run in self._numbers]
        key_of = {term: term_key(term) for terms in terms_of for term in terms}
        keys = np.fromiter((key_of[term] for terms in terms_of for term in terms), np.uint64)
        vocabulary, ordinals = np.unique(keys, return_inverse=True)
        bounds = _starts(np.fromiter(map(len, terms_of), np.int64, count=len(terms_of)))

        tokens = np.array(self._runs, dtype=np.uint32)
        sizes = np.diff(bounds)[tokens]
        row_starts = _starts(np.array(self._sizes, dtype=np.uint32))
        lengths = np.diff(_starts(sizes)[row_starts])
        # One number for a row and a term: rows first, so that sorting gathers what goes together.
        entries = np.repeat(np.arange(len(lengths), dtype=np.uint64) << np.uint64(32), lengths)
        entries |= ordinals.astype(np.uint64)[_spans(bounds[tokens], sizes)]
        entries, counts = np.unique(entries, return_counts=True)
        owners = entries >> np.uint64(32)
        return TermTable(
            vocabulary=vocabulary,
            starts=np.searchsorted(owners, np.arange(len(lengths) + 1, dtype=np.uint64)),
            ordinals=entries.astype(np.uint32),
            counts=np.minimum(counts, MAX_COUNT).astype(np.uint8),
            lengths=lengths.astype(np.uint32),
        )


class _Numbers(dict[bytes, int]):
    """Numbers the runs in the order in which they are first asked for."""

    def __missing__(self, run: bytes) -> int:
        self[run] = number = len(self)
        return number


def _starts(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])


def _spans(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each start on, as many as its size says, one span after another."""
    ends = np.cumsum(sizes)
    numbers = np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)
    numbers += np.repeat(starts - (ends - sizes), sizes)
    return numbers
