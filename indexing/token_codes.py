"""The token vectors of a segment: the codes of all its tokens in one file, mapped when read.

What a code means is the business of `indexing.token_codec`; here it is a row of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from indexing.columns import Streamed, read_columns, write_columns
from indexing.errors import IndexDamaged
from indexing.spans import spans

Codes = NDArray[np.uint8]
Rows = NDArray[np.int64]

FILE = "tokens.col"
_CHUNKS_A_SLICE = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCodes:
    """The codes of the tokens of several chunks, in memory or mapped.

    `codes` has shape (n_tokens, width), uint8; those of chunk r are `codes[starts[r]:starts[r + 1]]`.
    """

    codes: Codes
    starts: Rows

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> Codes:
        return self.codes[self.starts[row] : self.starts[row + 1]]

    @classmethod
    def of(cls, chunks: Sequence[Codes], width: int) -> TokenCodes:
        """The codes of chunks one after another.

        >>> two = TokenCodes.of([np.array([[1, 2]], np.uint8), np.empty((0, 2), np.uint8)], width=2)
        >>> two.codes.tolist(), two.starts.tolist()
        ([[1, 2]], [0, 1, 1])
        """
        return cls(
            codes=np.concatenate([np.empty((0, width), dtype=np.uint8), *chunks]),
            starts=_starts(np.array([len(chunk) for chunk in chunks], dtype=np.int64)),
        )

    def take(self, rows: Rows) -> TokenCodes:
        """A copy of some chunks."""
        sizes = np.diff(self.starts)[rows]
        return TokenCodes(codes=self.codes[spans(self.starts[rows], sizes)], starts=_starts(sizes))

    @classmethod
    def load(cls, directory: Path, n_rows: int, width: int) -> TokenCodes:
        """The codes of a segment, mapped. Raises IndexDamaged if they are not those of as many chunks."""
        path = directory / FILE
        columns = read_columns(path)
        starts, codes = columns["starts"], columns["codes"]
        if len(starts) != n_rows + 1 or starts[0] != 0 or starts[-1] * width != len(codes):
            raise IndexDamaged(f"{path} holds the codes of other tokens than those of {n_rows} chunks.")
        return cls(codes=codes.reshape(-1, width), starts=starts)


class SpilledCodes:
    """Codes put aside in a file without a name, which is gone when nothing reads it any more."""

    def __init__(self, directory: Path, width: int) -> None:
        self._file = TemporaryFile(dir=directory)  # noqa: SIM115 - closed by `read` or `close`
        self._width = width
        self._sizes: list[Rows] = []

    def add(self, tokens: TokenCodes) -> None:
        self._file.write(np.ascontiguousarray(tokens.codes).data)
        self._sizes.append(np.diff(tokens.starts))

    def read(self) -> TokenCodes:
        """What was added, mapped; nothing can be added after it."""
        starts = _starts(np.concatenate(self._sizes))
        codes: Codes = np.empty((0, self._width), dtype=np.uint8)
        with self._file as file:
            file.flush()
            if starts[-1]:
                codes = np.memmap(file, np.uint8, "r", shape=(int(starts[-1]), self._width))
        return TokenCodes(codes=codes, starts=starts)

    def close(self) -> None:
        """Lets go of what no one is going to read."""
        self._file.close()


def write_token_codes(
    directory: Path, sources: Sequence[TokenCodes], owners: Rows, rows: Rows, pause: Callable[[], None]
) -> None:
    """Writes the file of a segment whose row r is row `rows[r]` of source `owners[r]`, slice by slice."""
    sizes = np.empty(len(rows), dtype=np.int64)
    for number, source in enumerate(sources):
        of_source = owners == number
        sizes[of_source] = np.diff(source.starts)[rows[of_source]]
    starts = _starts(sizes)
    width = sources[0].codes.shape[1]
    parts = _slices(sources, owners, rows, starts, pause)
    codes = Streamed(dtype=np.dtype(np.uint8), length=int(starts[-1]) * width, parts=parts)
    write_columns(directory / FILE, {"starts": starts, "codes": codes})


def _slices(
    sources: Sequence[TokenCodes], owners: Rows, rows: Rows, starts: Rows, pause: Callable[[], None]
) -> Iterator[Codes]:
    for first in range(0, len(rows), _CHUNKS_A_SLICE):
        pause()
        part = slice(first, first + _CHUNKS_A_SLICE)
        begins = starts[:-1][part] - starts[first]
        sizes = np.diff(starts)[part]
        codes = np.empty((int(sizes.sum()), sources[0].codes.shape[1]), dtype=np.uint8)
        for number, source in enumerate(sources):
            of_source = np.flatnonzero(owners[part] == number)
            if len(of_source):
                taken = source.take(rows[part][of_source])
                codes[spans(begins[of_source], sizes[of_source])] = taken.codes
        yield codes.reshape(-1)


def _starts(sizes: Rows) -> Rows:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
