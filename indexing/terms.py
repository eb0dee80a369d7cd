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

from indexing.files import load_array

MAX_COUNT = np.iinfo(np.uint16).max
Rows = NDArray[np.int64]


def term_key(term: str) -> int:
    """The 64-bit name under which a term stands in a table."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class TermTable:
    """Row r has the entries `starts[r]:starts[r + 1]` of `ordinals` and `counts`.

    An ordinal is a place in `vocabulary`, the sorted keys of the table's terms. Within a row the ordinals
    rise, so that a sum over a row's terms is taken in the same order in every table, to the last bit.
    `frequencies` says for each term in how many rows it stands, `lengths` counts all tokens of a row.
    """

    vocabulary: NDArray[np.uint64]
    frequencies: NDArray[np.int64]
    starts: NDArray[np.int64]
    ordinals: NDArray[np.uint32]
    counts: NDArray[np.uint16]
    lengths: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.lengths)

    def frequencies_among(self, rows: Rows) -> NDArray[np.int64]:
        """In how many of the rows each term of the vocabulary stands."""
        return np.bincount(self.ordinals[self.entries(rows)[0]], minlength=len(self.vocabulary))

    def entries(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of the rows' entries, and for each the position in `rows` of the row it belongs to."""
        starts = self.starts[rows]
        sizes = self.starts[rows + 1] - starts
        ends = np.cumsum(sizes)
        owners = np.repeat(np.arange(len(rows)), sizes)
        places = np.arange(ends[-1] if len(rows) else 0) + (starts - (ends - sizes))[owners]
        return places, owners

    def take(self, rows: Rows) -> TermTable:
        """The given rows in the given order; the vocabulary keeps only what they use."""
        places, _ = self.entries(rows)
        sizes = self.starts[rows + 1] - self.starts[rows]
        ordinals = self.ordinals[places]
        frequencies = np.bincount(ordinals, minlength=len(self.vocabulary))
        used = frequencies > 0
        return TermTable(
            vocabulary=self.vocabulary[used],
            frequencies=frequencies[used],
            starts=_starts(sizes),
            ordinals=(np.cumsum(used) - 1).astype(np.uint32)[ordinals],
            counts=self.counts[places],
            lengths=self.lengths[rows],
        )

    @classmethod
    def concatenate(cls, tables: Sequence[TermTable]) -> TermTable:
        """The rows of the tables, one table after another."""
        vocabulary = reduce(np.union1d, (table.vocabulary for table in tables))
        frequencies = np.zeros(len(vocabulary), dtype=np.int64)
        ordinals = []
        for table in tables:
            places = np.searchsorted(vocabulary, table.vocabulary)
            frequencies[places] += table.frequencies
            ordinals.append(places.astype(np.uint32)[table.ordinals])
        return cls(
            vocabulary=vocabulary,
            frequencies=frequencies,
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
    """Collects the tokens of one row after another."""

    def __init__(self) -> None:
        self._numbers = _Numbers()
        self._tokens = array("I")
        self._lengths = array("I")

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, tokens: Sequence[str]) -> None:
        self._tokens.extend(map(self._numbers.__getitem__, tokens))
        self._lengths.append(len(tokens))

    def build(self) -> TermTable:
        keys = np.fromiter(map(term_key, self._numbers), np.uint64, count=len(self._numbers))
        vocabulary, ordinal_of = np.unique(keys, return_inverse=True)
        lengths = np.array(self._lengths, dtype=np.uint32)
        # One number for a row and a term: rows first, so that sorting gathers what goes together.
        width = max(len(vocabulary), 1)
        tokens = ordinal_of[np.array(self._tokens, dtype=np.uint32)]
        tokens += np.repeat(np.arange(len(lengths)), lengths) * width
        entries, counts = np.unique(tokens, return_counts=True)
        owners, ordinals = np.divmod(entries, width)
        return TermTable(
            vocabulary=vocabulary,
            frequencies=np.bincount(ordinals, minlength=len(vocabulary)),
            starts=_starts(np.bincount(owners, minlength=len(lengths))),
            ordinals=ordinals.astype(np.uint32),
            counts=np.minimum(counts, MAX_COUNT).astype(np.uint16),
            lengths=lengths,
        )


class _Numbers(dict[str, int]):
    """Numbers the terms in the order in which they are first asked for."""

    def __missing__(self, term: str) -> int:
        self[term] = number = len(self)
        return number


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
