"""What a loader is given: one file, its name, and how much it may cost."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from indexing.errors import LoadError
from indexing.loaders.canonical import clean
from indexing.loaders.decoding import decode, decoded_pieces
from indexing.types import LoadedText

BYTES_A_SECOND = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLimits:
    """What reading one file may cost.

    Memory is that of the whole child process (address space), interpreter included. A file is given
    `seconds` of processor time, and one more for each `BYTES_A_SECOND` of it. Decompressed bytes count
    all members of a container together, and bound the size of a plain file too.
    """

    memory_bytes: int = 1 << 30
    seconds: float = 60.0
    decompressed_bytes: int = 512 << 20
    text_chars: int = 256 << 20

    def seconds_for(self, n_bytes: int) -> float:
        """The processor time that a file of so many bytes may take."""
        return self.seconds + n_bytes // BYTES_A_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file to read. `filename` is the name its owner gave it; `path` is where the bytes lie."""

    path: Path
    filename: str
    limits: LoadLimits = field(default_factory=LoadLimits)

    @property
    def extension(self) -> str:
        """The last extension of the owner's name, in lower case and without the dot, else an empty string."""
        return Path(self.filename).suffix.lower().lstrip(".")

    def data(self) -> bytes:
        """The bytes; empty_file where there are none."""
        data = self.path.read_bytes()
        if not data:
            raise LoadError("empty_file", "the file has no bytes")
        return data

    def decoded(self) -> str:
        """The decoded text as it is; too_large over the limit."""
        text = decode(self.data())
        self.check_length(len(text))
        return text

    def decoded_pieces(self) -> Iterator[str]:
        """The decoded text a piece at a time, from a file that is mapped; empty_file, too_large."""
        n_chars = 0
        with self.path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise LoadError("empty_file", "the file has no bytes")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for piece in decoded_pieces(data):
                    n_chars += len(piece)
                    self.check_length(n_chars)
                    yield piece

    def check_length(self, n_chars: int) -> None:
        if n_chars > self.limits.text_chars:
            raise LoadError("too_large", f"the text has over {self.limits.text_chars} characters")

    def text(self) -> str:
        """The decoded text, clean (see `canonical.clean`)."""
        return clean(self.decoded())


class Loader(Protocol):
    """Turns a file of one format into canonical text.

    A loader may raise whatever its parser raises on damaged input; `load_file` turns that into a LoadError.
    It raises a LoadError itself where it knows better what is wrong. It opens no other file than the one
    given, writes nothing and asks no network.
    """

    def __call__(self, source: SourceFile) -> LoadedText: ...
