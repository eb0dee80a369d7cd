"""The postings of a segment: for every term the rows that have it, so that a search reads no others."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.bm25 import length_code
from indexing.files import load_array
from indexing.terms import TermTable

MAX_ROWS = 2**24
# Rows whose keys are made at once: bounds what is needed beside the keys themselves.
_BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Postings:
    """A term table turned round: term t stands in `rows[starts[t]:starts[t + 1]]`, which rise.

    `counts` says how often, 255 standing for more. Terms are numbered by their places in the table's
    vocabulary. `lengths` has the one-byte code of every row's length.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.uint32]
    counts: NDArray[np.uint8]
    lengths: NDArray[np.uint8]

    @classmethod
    def build(cls, table: TermTable) -> Postings:
        """The same entries, ordered by term; needs 8 bytes an entry beside the result.

        Raises ValueError for a table of more than 16,777,216 rows.
        """
        if len(table) > MAX_ROWS:
            raise ValueError(f"A table of {len(table)} rows is too long: {MAX_ROWS} are possible.")
        # A term, a row and a count in one number: sorting such numbers is the quickest way to turn
        # the table round.
        keys = np.empty(len(table.ordinals), dtype=np.uint64)
        for first in range(0, len(table), _BLOCK_ROWS):
            ends = table.starts[first : first + _BLOCK_ROWS + 1]
            rows = np.arange(first, first + len(ends) - 1, dtype=np.uint64)
            part = slice(ends[0], ends[-1])
            keys[part] = table.ordinals[part]
            keys[part] <<= 24
            keys[part] |= np.repeat(rows, np.diff(ends))
            keys[part] <<= 8
            keys[part] |= table.counts[part]
        keys.sort()
        borders = np.arange(len(table.vocabulary) + 1, dtype=np.uint64) << np.uint64(32)
        starts = np.searchsorted(keys, borders)
        counts = keys.astype(np.uint8)
        keys >>= 8
        keys &= MAX_ROWS - 1
        return cls(
            starts=starts,
            rows=keys.astype(np.uint32),
            counts=counts,
            lengths=length_code(table.lengths),
        )

    def save(self, directory: Path) -> None:
        for item in fields(self):
            np.save(directory / f"postings-{item.name}.npy", getattr(self, item.name), allow_pickle=False)

    @classmethod
    def load(cls, directory: Path) -> Postings:
        return cls(**{item.name: load_array(directory / f"postings-{item.name}.npy") for item in fields(cls)})

    def same_as(self, other: Postings) -> bool:
        """Whether both hold the same entries."""
        return all(
            np.array_equal(getattr(self, item.name), getattr(other, item.name)) for item in fields(self)
        )
