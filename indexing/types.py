"""Values of the write path: what a loader gives, what a chunker gives, what an encoder gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Literal, NewType

import numpy as np
from numpy.typing import NDArray

from indexing.long_text import LongText

DocumentId = NewType("DocumentId", int)
ChunkId = NewType("ChunkId", int)

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Characters `[start, end)` of the canonical text that stand on one page; pages count from 1."""

    page: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading at characters `[start, end)` of the canonical text; level 1 is the outermost."""

    level: int
    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Characters `[start, end)` that a chunker should keep together: a table, code, a list, a record."""

    kind: Literal["table", "code", "list", "record"]
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedText:
    """The canonical text of one file, with what the format says of its structure.

    Pages, headings and blocks are sorted by start, lie inside the text, and those of one kind do not
    overlap. `text` contains no NUL and no lone surrogate, and line ends are `\\n`. One that is very long may
    come in parts.
    """

    text: str | LongText
    title: str | None = None
    metadata: Mapping[str, Scalar | list[str]] = field(default_factory=dict)
    pages: tuple[Page, ...] = ()
    headings: tuple[Heading, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpan:
    """What a chunker gives: characters `[start, end)` of a canonical text and the headings above them."""

    start: int
    end: int
    heading_path: tuple[str, ...] = ()
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A retrievable span: `document.text[start:end] == text`, always.

    `heading_path` begins with the document's title. It is put before the text where the chunk is encoded
    and indexed (`contextual_text`), and is never part of what may be cited.
    """

    id: ChunkId
    document_id: DocumentId
    ordinal: int
    text: str
    start: int
    end: int
    heading_path: tuple[str, ...] = ()
    page: int | None = None
    n_tokens: int = 0

    @property
    def contextual_text(self) -> str:
        return contextual_text(self.heading_path, self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenVectors:
    """One text's token vectors, in reading order, without special tokens but for models that score with them.

    `vectors` has shape (n_tokens, dim), float32, each of length 1; `offsets` has shape (n_tokens, 2) and
    gives the characters `[start, end)` of the encoded text that each token covers; none for a special token.
    """

    vectors: Floats
    offsets: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Vectors of a batch of texts, in the order of the texts.

    `vectors` has shape (n_texts, dim), float32, each row of length 1. `tokens` is there when asked for.
    """

    vectors: Floats
    tokens: tuple[TokenVectors, ...] | None = None


def contextual_text(heading_path: tuple[str, ...], text: str) -> str:
    """The text as it is encoded and indexed: the headings on one line, then the text.

    >>> contextual_text(("Guide", "Install"), "Run make.")
    'Guide > Install\\nRun make.'
    >>> contextual_text((), "Run make.")
    'Run make.'
    """
    return f"{' > '.join(heading_path)}\n{text}" if heading_path else text


def text_hash(text: str) -> str:
    """The sha256 of the text in UTF-8, as 64 hexadecimal digits: the key of a kept vector."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def stable_id(*parts: str | int) -> int:
    """A 63-bit id that depends on the parts alone, so that a step run twice writes the same row.

    >>> stable_id("default", "a.txt") == stable_id("default", "a.txt")
    True
    >>> 0 <= stable_id("x") < 2**63
    True
    """
    joined = "\0".join(str(part) for part in parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(joined, digest_size=8).digest(), "big") >> 1
