"""Word documents of the binary format (.doc), after Microsoft's [MS-DOC] sections 2.4.1 and 2.5."""

from __future__ import annotations

import re
import struct

from indexing.errors import LoadError
from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.ole import OleStreams
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText

_WORD_97 = 0xC1
_FLAG_ENCRYPTED, _FLAG_TABLE_1 = 0x0100, 0x0200
_COMPRESSED = 0x4000_0000
_CELL_MARK = "\x07"
# Field codes stand between 0x13 and 0x14, what they show between 0x14 and 0x15.
_FIELD_CODE = re.compile("\x13[^\x13\x14\x15]*\x14|\x13[^\x13\x14\x15]*\x15|\x15")
_CHARACTERS = str.maketrans(
    {"\x0b": "\n", "\x0c": "\r", "\x0e": "\n", "\x1e": "-", "\x1f": None, "\xa0": " "}
)


def load_doc(source: SourceFile) -> LoadedText:
    """Paragraphs and table rows of the main text and its notes."""
    streams = OleStreams(source)
    text = _characters(streams)
    for _ in range(20):  # fields may stand in fields
        text, n_fields = _FIELD_CODE.subn("", text)
        if not n_fields:
            break
    builder = TextBuilder(source.limits.text_chars)
    rows: list[list[str]] = []
    for paragraph in text.translate(_CHARACTERS).split("\r"):
        *row_parts, rest = paragraph.split(_CELL_MARK * 2)
        rows.extend(part.split(_CELL_MARK) for part in row_parts)
        if _CELL_MARK in rest:  # a row goes on in the next paragraph
            rows.append(rest.split(_CELL_MARK))
            continue
        if rows and rest.strip():
            builder.table(rows)
            rows = []
        builder.paragraph(rest.strip(" "))
    if rows:
        builder.table(rows)
    title, metadata = streams.properties()
    return builder.finish(title=squeeze(title or "") or None, metadata=metadata)


def _characters(streams: OleStreams) -> str:
    """The characters of the document in order, put together from its pieces."""
    document = streams.read("WordDocument")
    try:
        _, version, *_ = struct.unpack_from("<HH", document)
        (flags,) = struct.unpack_from("<H", document, 0x0A)
        if flags & _FLAG_ENCRYPTED:
            raise LoadError("encrypted_file", "the document is protected with a password")
        if version < _WORD_97:
            raise LoadError("unsupported_format", "the document is older than Word 97")
        clx_at, clx_length = struct.unpack_from("<II", document, 0x01A2)
        table = streams.read("1Table" if flags & _FLAG_TABLE_1 else "0Table")
        return _pieces(document, table[clx_at : clx_at + clx_length])
    except struct.error as exc:
        raise LoadError("corrupt_file", "the document's tables are cut off") from exc


def _pieces(document: bytes, clx: bytes) -> str:
    position = 0
    while clx[position : position + 1] == b"\x01":  # property modifiers before the piece table
        position += 3 + struct.unpack_from("<H", clx, position + 1)[0]
    if clx[position : position + 1] != b"\x02":
        raise LoadError("corrupt_file", "the document has no piece table")
    (length,) = struct.unpack_from("<I", clx, position + 1)
    plc = clx[position + 5 : position + 5 + length]
    n_pieces = (len(plc) - 4) // 12
    ends = struct.unpack_from(f"<{n_pieces + 1}I", plc)
    parts = []
    for number in range(n_pieces):
        (place,) = struct.unpack_from("<I", plc, 4 * (n_pieces + 1) + 8 * number + 2)
        n_chars = max(0, ends[number + 1] - ends[number])
        if place & _COMPRESSED:
            start = (place & ~_COMPRESSED) // 2
            parts.append(document[start : start + n_chars].decode("cp1252", "replace"))
        else:
            parts.append(document[place : place + 2 * n_chars].decode("utf-16-le", "replace"))
    return "".join(parts)
