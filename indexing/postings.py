"""The postings of a segment: for every term the rows that have it, so that a search reads no others."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.bm25 import length_code
from indexing.columns import read_columns, write_columns
from indexing.terms import TermTable

MAX_ROWS = 2**24

_FILE = "postings.col"
# Rows or entries in hand at once: bounds what is needed beside the keys themselves.
_BLOCK = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Postings:
    """A term table turned round: term t stands in `rows[starts[t]:starts[t + 1]]`, which rise.

    Terms are numbered by their places in the table's vocabulary. `impacts` has all that a score needs to
    know of the term in the row: how often it stands there, times 256, plus the code of the row's length.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.uint32]
    impacts: NDArray[np.uint16]

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
        for first in range(0, len(table), _BLOCK):
            ends = table.starts[first : first + _BLOCK + 1]
            numbers = np.arange(first, first + len(ends) - 1, dtype=np.uint64)
            part = slice(ends[0], ends[-1])
            keys[part] = table.ordinals[part]
            keys[part] <<= 24
            keys[part] |= np.repeat(numbers, np.diff(ends))
            keys[part] <<= 8
            keys[part] |= table.counts[part]
        keys.sort()
        borders = np.arange(len(table.vocabulary) + 1, dtype=np.uint64) << np.uint64(32)
        starts = np.searchsorted(keys, borders)
        impacts = np.left_shift(keys.astype(np.uint8), 8, dtype=np.uint16)
        keys >>= 8
        keys &= MAX_ROWS - 1
        rows = keys.astype(np.uint32)
        codes = length_code(table.lengths)
        for first in range(0, len(rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            impacts[part] |= codes[rows[part]]
        return cls(starts=starts, rows=rows, impacts=impacts)

    def save(self, directory: Path) -> None:
        write_columns(directory / _FILE, {item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def load(cls, directory: Path) -> Postings:
        return cls(**read_columns(directory / _FILE))
