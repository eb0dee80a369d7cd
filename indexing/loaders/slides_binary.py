"""PowerPoint presentations of the binary format (.ppt), after Microsoft's [MS-PPT]."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from indexing.errors import LoadError
from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.ole import OleStreams
from indexing.loaders.slides import given_title
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText

_DOCUMENT = 0x03E8
_SLIDE_LIST, _SLIDE_PERSIST, _PERSIST_DIRECTORY = 0x0FF0, 0x03F3, 0x1772
_TEXT_HEADER, _TEXT_CHARS, _TEXT_BYTES = 0x0F9F, 0x0FA0, 0x0FA8
_TITLE_KINDS = (0, 6)
_MAX_DEPTH = 40


@dataclass(frozen=True, slots=True)
class _Record:
    kind: int
    instance: int
    start: int
    end: int
    is_container: bool


def load_ppt(source: SourceFile) -> LoadedText:
    """A presentation: each slide is a page, its title a heading, text boxes behind the outline."""
    streams = OleStreams(source)
    if "EncryptedSummary" in streams.names():
        raise LoadError("encrypted_file", "the presentation is protected with a password")
    data = streams.read("PowerPoint Document")
    places = _slide_places(data)
    builder = TextBuilder(source.limits.text_chars)
    for number, (identifier, texts) in enumerate(_outline(data), start=1):
        builder.page(number)
        seen = set()
        place = places.get(identifier)
        boxes = [] if place is None else list(_texts(data, place, _end(data, place), 0))
        for kind, text in [*texts, *boxes]:
            lines = [line.strip() for line in text.replace("\v", "\r").split("\r")]
            words = "\n".join(filter(None, lines))
            if not words or squeeze(words) in seen:
                continue
            seen.add(squeeze(words))
            if kind in _TITLE_KINDS:
                builder.heading(words, 1)
            else:
                builder.paragraph(words)
    title, metadata = streams.properties()
    return builder.finish(title=given_title(title), metadata=metadata)


def _records(data: bytes, start: int, end: int) -> Iterator[_Record]:
    while start + 8 <= end:
        head, kind, length = struct.unpack_from("<HHI", data, start)
        last = min(start + 8 + length, end)
        yield _Record(kind, head >> 4, start + 8, last, head & 0xF == 0xF)
        start = start + 8 + length


def _end(data: bytes, place: int) -> int:
    if place + 8 > len(data):
        raise LoadError("corrupt_file", "a slide lies behind the end of the file")
    return min(len(data), place + 8 + int(struct.unpack_from("<I", data, place + 4)[0]))


def _slide_places(data: bytes) -> dict[int, int]:
    """Where each persistent object lies; later directories replace earlier ones."""
    places: dict[int, int] = {}
    for record in _records(data, 0, len(data)):
        if record.kind != _PERSIST_DIRECTORY:
            continue
        position = record.start
        while position + 4 <= record.end:
            (entry,) = struct.unpack_from("<I", data, position)
            first, count = entry & 0xFFFFF, entry >> 20
            position += 4
            for offset in range(min(count, (record.end - position) // 4)):
                (places[first + offset],) = struct.unpack_from("<I", data, position + 4 * offset)
            position += 4 * count
    return places


def _outline(data: bytes) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """For each slide in order: its persistent id and its outline's texts with their kinds."""
    documents = [record for record in _records(data, 0, len(data)) if record.kind == _DOCUMENT]
    if not documents:
        raise LoadError("corrupt_file", "the presentation has no document record")
    for container in _records(data, documents[-1].start, documents[-1].end):
        if container.kind != _SLIDE_LIST or container.instance != 0:
            continue
        slide: tuple[int, list[tuple[int, str]]] | None = None
        kind = -1
        for record in _records(data, container.start, container.end):
            if record.kind == _SLIDE_PERSIST and record.end - record.start >= 4:
                if slide is not None:
                    yield slide
                slide = (int(struct.unpack_from("<I", data, record.start)[0]), [])
            elif record.kind == _TEXT_HEADER and record.end - record.start >= 4:
                (kind,) = struct.unpack_from("<I", data, record.start)
            elif slide is not None and (text := _text(data, record)):
                slide[1].append((kind, text))
        if slide is not None:
            yield slide


def _texts(data: bytes, start: int, end: int, depth: int) -> Iterator[tuple[int, str]]:
    """Texts of the boxes drawn on a slide."""
    kind = -1
    for record in _records(data, start, end):
        if record.is_container and depth < _MAX_DEPTH:
            yield from _texts(data, record.start, record.end, depth + 1)
        elif record.kind == _TEXT_HEADER and record.end - record.start >= 4:
            (kind,) = struct.unpack_from("<I", data, record.start)
        elif text := _text(data, record):
            yield kind, text


def _text(data: bytes, record: _Record) -> str:
    if record.kind == _TEXT_CHARS:
        return data[record.start : record.end].decode("utf-16-le", "replace")
    if record.kind == _TEXT_BYTES:
        return data[record.start : record.end].decode("latin-1")
    return ""
