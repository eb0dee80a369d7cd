"""What passes between the pool and its children: lengths, JSON and plain text; never pickle.

A child reads hostile files, so what it sends is checked like any input: sizes, types, and the invariants of
LoadedText are held by the reader.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

from indexing.errors import LoadError, LoadErrorCode
from indexing.loaders.canonical import loaded_text
from indexing.long_text import LongText, parts_of
from indexing.types import Block, Heading, LoadedText, Page

READY = b"+"  # the first byte a child sends: its imports are done and its limits stand
MAX_HEADER_BYTES = 64 << 20  # in the parent, a span takes five times the memory of its JSON
FRAME = struct.Struct("<QQ")  # bytes of JSON, bytes of text
_CODES: frozenset[str] = frozenset(LoadErrorCode.__args__)  # type: ignore[attr-defined]


def encode_answer(loaded: LoadedText) -> Iterator[bytes]:
    """A frame with a text and what is known of it, piece by piece."""
    header = {
        "title": loaded.title,
        "metadata": dict(loaded.metadata),
        "pages": [(page.page, page.start, page.end) for page in loaded.pages],
        "headings": [(h.level, h.title, h.start, h.end) for h in loaded.headings],
        "blocks": [(block.kind, block.start, block.end) for block in loaded.blocks],
    }
    yield _frame(header, sum(len(part.encode()) for part in parts_of(loaded.text)))
    for part in parts_of(loaded.text):
        yield part.encode()


def encode_error(error: LoadError) -> bytes:
    """A frame with an error."""
    return _frame({"error": error.code, "detail": error.detail[:1000]}, 0)


def decode_answer(header: bytes, text: bytes | LongText) -> LoadedText:
    """The LoadedText of a frame; raises the LoadError it carries, loader_crashed where it makes no sense."""
    try:
        fields: dict[str, Any] = json.loads(header)
        if "error" in fields:
            if fields["error"] not in _CODES:
                raise ValueError("unknown error code")
            failure = LoadError(fields["error"], str(fields["detail"]))
        else:
            return _loaded(fields, text.decode() if isinstance(text, bytes) else text)
    except (ValueError, KeyError, TypeError, LoadError, RecursionError) as exc:
        raise LoadError("loader_crashed", "the loader's answer makes no sense") from exc
    raise failure


def _loaded(fields: dict[str, Any], text: str | LongText) -> LoadedText:
    title, metadata = fields["title"], fields["metadata"]
    if not isinstance(title, str | None) or not isinstance(metadata, dict):
        raise TypeError("title or metadata")
    for value in metadata.values():
        if not isinstance(value, str | int | float | bool | list):
            raise TypeError("metadata")
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise TypeError("metadata")
    return loaded_text(
        text,
        title=title,
        metadata=metadata,
        pages=[Page(page=int(n), start=int(start), end=int(end)) for n, start, end in fields["pages"]],
        headings=[
            Heading(level=int(level), title=str(words), start=int(start), end=int(end))
            for level, words, start, end in fields["headings"]
        ],
        blocks=[
            Block(kind=_kind(kind), start=int(start), end=int(end)) for kind, start, end in fields["blocks"]
        ],
    )


def _kind(kind: object) -> Any:
    if kind not in ("table", "code", "list", "record"):
        raise ValueError("unknown kind of block")
    return kind


def _frame(header: dict[str, Any], n_text: int) -> bytes:
    encoded = json.dumps(header, ensure_ascii=False).encode("utf-8", "replace")
    if len(encoded) > MAX_HEADER_BYTES:
        raise LoadError("too_large", "the file has more headings, pages, tables or records than can be kept")
    return FRAME.pack(len(encoded), n_text) + encoded
