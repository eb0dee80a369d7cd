"""Canonical text: clean characters, and the one place that holds the invariants of LoadedText."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

from indexing.errors import LoadError
from indexing.long_text import Characters, LongText, parts_of
from indexing.types import Block, Heading, LoadedText, Page, Scalar

BlockKind = Literal["table", "code", "list", "record"]
Metadata = Mapping[str, Scalar | list[str]]
Span = TypeVar("Span", Page, Heading, Block)

MAX_TITLE_CHARS = 300
MAX_METADATA_CHARS = 1000
MAX_METADATA_FIELDS = 100

# Line ends of other systems, and characters that stand for a line end.
_LINE_ENDS = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
# Characters no reader sees: controls, soft hyphens, zero-width spaces and joiners, marks of direction, tag
# characters, noncharacters. They break words for search, and carry orders to a model past the reader.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069"
    "\ufeff\ufffe\uffff\U000e0000-\U000e007f]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_UNCLEAN_ASCII = bytes(code for code in (*range(32), 127) if chr(code) not in "\t\n")
_SPACES = re.compile(r"\s+")


def clean(text: str) -> str:
    r"""The text with `\n` line ends, without invisible characters; lone surrogates become U+FFFD.

    >>> clean("a\r\nb\x00c\u200bd")
    'a\nbcd'
    """
    if is_clean(text):
        return text
    text = _LINE_ENDS.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    return _SURROGATES.sub("\ufffd", text)


def is_clean(text: str) -> bool:
    """Whether `clean` would leave the text as it is; quick, since most texts are."""
    if text.isascii():
        data = text.encode("ascii")
        return len(data.translate(None, _UNCLEAN_ASCII)) == len(data)
    return not any(pattern.search(text) for pattern in (_LINE_ENDS, _INVISIBLE, _SURROGATES))


def squeeze(text: str) -> str:
    r"""The text on one line: each run of white space is one space.

    >>> squeeze(" a \n  b ")
    'a b'
    """
    return _SPACES.sub(" ", text).strip()


def table_text(rows: Iterable[Sequence[str]]) -> str:
    r"""Rows as lines, cells parted by ` | `; empty rows and empty cells at the end of a row are left out.

    >>> table_text([["a", "b"], ["", ""], ["1\n2", ""]])
    'a | b\n1 2'
    """
    lines = []
    for row in rows:
        cells = [squeeze(cell) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            lines.append(" | ".join(cells))
    return "\n".join(lines)


def loaded_text(
    text: str | LongText,
    *,
    title: str | None = None,
    metadata: Metadata | None = None,
    pages: Iterable[Page] = (),
    headings: Iterable[Heading] = (),
    blocks: Iterable[Block] = (),
) -> LoadedText:
    """A LoadedText that keeps its invariants; empty_file where the text is only white space.

    Spans are trimmed to their outermost visible characters, sorted, and left out where they are empty,
    outside the text or inside an earlier one. The text is taken as it is where it is clean; spans of a
    text that is not would point beside their words, so such a text is refused with ValueError.
    """
    # In parts, since to look at a text must not take as much memory again.
    if all(part.isspace() for part in parts_of(text)):
        raise LoadError("empty_file", "the file has no text")
    if not all(is_clean(part) for part in parts_of(text)):
        raise ValueError("canonical text is not clean")
    return LoadedText(
        text=text,
        title=squeeze(clean(title or ""))[:MAX_TITLE_CHARS].rstrip() or None,
        metadata=_plain_metadata(metadata or {}),
        pages=tuple(_disjoint(text, pages)),
        headings=tuple(heading for heading in _disjoint(text, headings) if heading.title),
        blocks=tuple(_disjoint(text, blocks)),
    )


def _disjoint(text: Characters, spans: Iterable[Span]) -> Iterator[Span]:
    free_from = 0
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        start, end = max(span.start, 0), min(span.end, len(text))
        if start < free_from:
            continue
        while start < end and text[start : start + 1].isspace():
            start += 1
        while start < end and text[end - 1 : end].isspace():
            end -= 1
        if start < end:
            yield _moved(span, start, end)
            free_from = end


def _moved(span: Span, start: int, end: int) -> Span:
    match span:
        case Page():
            return Page(page=span.page, start=start, end=end)
        case Heading():
            title = squeeze(clean(span.title))[:MAX_TITLE_CHARS].rstrip()
            return Heading(level=max(1, span.level), title=title, start=start, end=end)
        case Block():
            return Block(kind=span.kind, start=start, end=end)


def _plain_metadata(metadata: Metadata) -> dict[str, Scalar | list[str]]:
    plain: dict[str, Scalar | list[str]] = {}
    for name, value in metadata.items():
        key = squeeze(clean(name))[:MAX_TITLE_CHARS]
        if isinstance(value, str):
            value = squeeze(clean(value))[:MAX_METADATA_CHARS]
        elif isinstance(value, list):
            value = [squeeze(clean(item))[:MAX_METADATA_CHARS] for item in value[:MAX_METADATA_FIELDS]]
        elif isinstance(value, float) and not math.isfinite(value):
            continue
        if key and value not in ("", []) and len(plain) < MAX_METADATA_FIELDS:
            plain[key] = value
    return plain


class TextBuilder:
    """Grows a canonical text piece by piece and remembers where headings, blocks and pages lie in it."""

    def __init__(self, max_chars: int) -> None:
        self._max_chars = max_chars
        self._parts: list[str] = []
        self._length = 0
        self._page_number: int | None = None
        self._page_start = 0
        self._pages: list[Page] = []
        self._headings: list[Heading] = []
        self._blocks: list[Block] = []
        self._list_start: int | None = None  # of the list that the last piece belongs to

    def __len__(self) -> int:
        return self._length

    def paragraph(self, text: str) -> None:
        """Append text after a blank line."""
        self._append(text, "\n\n")

    def line(self, text: str) -> None:
        """Append text on a new line."""
        self._append(text, "\n")

    def item(self, text: str) -> None:
        """Append an item of a list; items that follow each other are one list block."""
        if not text.strip():
            return
        start = self._list_start
        if start is None:
            start = self._length
            self._append(text, "\n\n")
        else:
            self._append(text, "\n")
            self._blocks.pop()
        self._blocks.append(Block(kind="list", start=start, end=self._length))
        self._list_start = start

    def heading(self, text: str, level: int) -> None:
        """Append a heading, on one line, after a blank line."""
        title = squeeze(clean(text))
        start = self._length
        self._append(title, "\n\n")
        self._headings.append(Heading(level=level, title=title, start=start, end=self._length))

    def table(self, rows: Iterable[Sequence[str]]) -> None:
        """Append rows as a table block; see `table_text`."""
        with self.block("table"):
            self.paragraph(table_text(rows))

    def code(self, text: str) -> None:
        """Append text as a code block, its indentation kept."""
        with self.block("code"):
            self.paragraph(text)

    @contextmanager
    def block(self, kind: BlockKind) -> Iterator[None]:
        """What is appended inside is one block."""
        start = self._length
        yield
        self._list_start = None
        self._blocks.append(Block(kind=kind, start=start, end=self._length))

    def page(self, number: int) -> None:
        """What is appended from here on stands on page `number`."""
        self._close_page()
        self._list_start = None
        self._page_number = number
        self._page_start = self._length

    def finish(self, *, title: str | None = None, metadata: Metadata | None = None) -> LoadedText:
        """The LoadedText; the first heading is the title where none is given."""
        self._close_page()
        if not (title or "").strip():
            title = next((heading.title for heading in self._headings if heading.title), None)
        return loaded_text(
            "".join(self._parts),
            title=title,
            metadata=metadata,
            pages=self._pages,
            headings=self._headings,
            blocks=self._blocks,
        )

    def _append(self, text: str, separator: str) -> None:
        text = clean(text).strip("\n").rstrip()
        if not text:
            return
        self._list_start = None
        if self._length:
            self._parts.append(separator)
            self._length += len(separator)
        self._parts.append(text)
        self._length += len(text)
        if self._length > self._max_chars:
            raise LoadError("too_large", f"the text has over {self._max_chars} characters")

    def _close_page(self) -> None:
        if self._page_number is not None:
            self._pages.append(Page(page=self._page_number, start=self._page_start, end=self._length))
