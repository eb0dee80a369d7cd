"""Start, end and data events of HTML to canonical text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from indexing.loaders.canonical import TextBuilder, squeeze

# fmt: off
VOID = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
}
_DROPPED = {
    "script", "style", "template", "noscript", "svg", "canvas", "iframe", "object", "head", "audio",
    "video", "map", "select", "datalist", "annotation", "annotation-xml", "rp",
}
_BOILERPLATE = {
    "nav", "footer", "button", "input", "textarea", "dialog",
}
_BOILERPLATE_ROLES = {"navigation", "banner", "contentinfo", "search", "complementary", "dialog"}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
    "header", "hgroup", "hr", "html", "legend", "li", "main", "menu", "nav", "ol", "option", "p", "pre",
    "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul", "caption",
}
# fmt: on
_HEADING = re.compile(r"h([1-6])$")
_HIDDEN_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|opacity\s*:\s*0(?![.\d])", re.I
)
_SPACES = re.compile(r"[ \t\n\r\f\xa0]+")
_BREAK = "\v"  # stands for <br> until the white space around it is squeezed
_AROUND_BREAK = re.compile(rf" *{_BREAK} *")
_MAX_INDENT = 4
_MAX_SPAN = 100
_ENUMERATOR = re.compile(r"(?:[^\w\s]{1,2}|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)])$")
_AMOUNT = re.compile(r"[\d(—-]")
_LEADING_SIGNS = ("$", "€", "£", "¥", "US$", "CHF")
_TRAILING_SIGNS = (")", "%", ")%", "%)")


@dataclass(slots=True)
class _Table:
    """A table being read; one with headings or tables in it only lays out the page."""

    rows: list[list[str]] = field(default_factory=list)
    is_layout: bool = False


@dataclass(slots=True)
class _List:
    is_ordered: bool
    number: int = 0


class HtmlWriter:
    """Writes a stream of HTML events, balanced or not, to a builder."""

    def __init__(self, builder: TextBuilder, *, keep_all: bool) -> None:
        self._builder = builder
        self._keep_all = keep_all
        self._open: list[str] = []
        self._dropped_at: int | None = None  # the depth of the element that is left out
        self._inline: list[str] = []
        self._heading: int | None = None
        self._pre = 0
        self._tables: list[_Table] = []
        self._lists: list[_List] = []
        self._list_block = ExitStack()
        self._item_prefix = ""
        self._cell_span = 1

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self._open.append(name)
        if self._dropped_at is not None:
            return
        if self._is_left_out(name, attributes):
            self._dropped_at = len(self._open)
            return
        if name in _BLOCKS and not self._pre:
            self._break_block(name)
        if found := _HEADING.match(name):
            self._leave_layout_tables()
            self._heading = int(found[1])
        elif name == "pre":
            self._leave_layout_tables()
            self._pre += 1
        elif name == "br":
            self._inline.append("\n" if self._pre else _BREAK)
        elif name == "table":
            self._leave_layout_tables()
            self._tables.append(_Table())
        elif name in ("td", "th"):
            span = attributes.get("colspan", "")
            self._cell_span = min(int(span), _MAX_SPAN) if span.isdecimal() and len(span) < 7 else 1
        elif name == "tr" and self._tables:
            self._tables[-1].rows.append([])
        elif name in ("ul", "ol", "menu"):
            self._start_list(name, attributes)
        elif name == "li":
            self._start_item()

    def end(self, name: str) -> None:
        """An element ends."""
        if name not in self._open:
            return
        depth = len(self._open) - self._open[::-1].index(name)
        del self._open[depth - 1 :]
        if self._dropped_at is not None:
            if len(self._open) < self._dropped_at:
                self._dropped_at = None
            return
        if name == "pre" and self._pre:
            self._end_pre()
        elif name in ("td", "th"):
            self._end_cell()
        elif name == "table" and self._tables:
            self._flush()
            self._write_table(self._tables.pop())
        elif name in _BLOCKS and not self._pre:
            self._break_block(name)
        if _HEADING.match(name):
            self._heading = None
        if name in ("ul", "ol", "menu") and self._lists:
            self._lists.pop()
            self._item_prefix = ""
            if not self._lists:
                self._list_block.close()

    def data(self, text: str) -> None:
        """Characters between the tags."""
        if self._dropped_at is None:
            self._inline.append(text if self._pre else _SPACES.sub(" ", text))

    def close(self) -> None:
        """The page ends; what is open is written."""
        while self._tables:
            self._end_cell()
            self._write_table(self._tables.pop())
        self._flush()
        self._list_block.close()

    def _is_left_out(self, name: str, attributes: Mapping[str, str]) -> bool:
        if name in _DROPPED or "hidden" in attributes or _HIDDEN_STYLE.search(attributes.get("style", "")):
            return True
        if self._keep_all:
            return False
        is_other_language = name == "a" and "hreflang" in attributes and "li" in self._open
        return is_other_language or name in _BOILERPLATE or attributes.get("role", "") in _BOILERPLATE_ROLES

    @property
    def _in_cell(self) -> bool:
        return bool(self._tables) and not self._tables[-1].is_layout and bool(self._tables[-1].rows)

    def _break_block(self, name: str) -> None:
        """A block begins or ends: what stands before it is a paragraph, or within a cell only a space."""
        if self._in_cell:
            if name not in ("td", "th", "tr"):
                self._inline.append(" ")
        else:
            self._flush()

    def _flush(self) -> None:
        text = _AROUND_BREAK.sub("\n", _SPACES.sub(" ", "".join(self._inline))).strip()
        self._inline.clear()
        if not text:
            return
        if self._heading is not None:
            self._builder.heading(text, self._heading)
        elif self._item_prefix:
            self._write_item(text)
        elif self._lists:
            self._builder.line("  " * min(len(self._lists), _MAX_INDENT) + squeeze(text))
        else:
            self._builder.paragraph(text)

    def _start_list(self, name: str, attributes: Mapping[str, str]) -> None:
        if not self._lists and not self._in_cell:
            self._list_block.enter_context(self._builder.block("list"))
        start = attributes.get("start", "")
        number = int(start) - 1 if start.isdecimal() and len(start) < 7 else 0
        self._lists.append(_List(is_ordered=name == "ol", number=number))

    def _start_item(self) -> None:
        current = self._lists[-1] if self._lists else _List(is_ordered=False)
        current.number += 1
        mark = f"{current.number}. " if current.is_ordered else "- "
        if self._in_cell:
            self._inline.append(mark)
        else:
            self._item_prefix = "  " * min(max(0, len(self._lists) - 1), _MAX_INDENT) + mark

    def _write_item(self, text: str) -> None:
        line = self._item_prefix + squeeze(text)
        is_first = len(self._lists) <= 1 and self._lists and self._lists[-1].number == 1
        (self._builder.paragraph if is_first else self._builder.line)(line)
        self._item_prefix = ""

    def _end_pre(self) -> None:
        self._pre -= 1
        if self._pre:
            return
        text = "".join(self._inline)
        self._inline.clear()
        self._builder.code(text)

    def _end_cell(self) -> None:
        if not self._in_cell:
            self._flush()
            return
        row, text = self._tables[-1].rows[-1], "".join(self._inline).replace(_BREAK, " ")
        gap = [""] * (self._cell_span - 1)
        # The number under a wide head stands on the right of it, behind a currency sign.
        row += [*gap, text] if row else [text, *gap]
        self._cell_span = 1
        self._inline.clear()

    def _leave_layout_tables(self) -> None:
        """Make the tables around here plain layout, and write what they hold."""
        for table in self._tables:
            if not table.is_layout:
                self._write_table(table)
                table.is_layout = True
                table.rows = []
        self._flush()

    def _write_table(self, table: _Table) -> None:
        rows = table_rows(table.rows)
        if not rows:
            return
        if len(rows[0]) == 2 and all(_ENUMERATOR.match(row[0]) for row in rows):
            for row in rows:  # a list drawn as a table
                self._builder.item(" ".join(row))
        elif len(rows[0]) > 1:
            self._builder.table(rows)
        else:
            for row in rows:  # a frame around paragraphs
                self._builder.paragraph(row[0])


def table_rows(rows: list[list[str]]) -> list[list[str]]:
    """Cells as a reader sees them: empty rows and columns are gone, signs stand by the number they belong to.

    >>> table_rows([["Total", "", "$", "(5", ")"], ["Tax", "", "", "7", "%"]])
    [['Total', '$(5)'], ['Tax', '7%']]
    """
    merged = [_with_signs([squeeze(cell) for cell in row]) for row in rows]
    merged = [row for row in merged if any(row)]
    width = max(map(len, merged), default=0)
    filled = [column for column in range(width) if any(len(row) > column and row[column] for row in merged)]
    return [[row[column] if column < len(row) else "" for column in filled] for row in merged]


def _with_signs(row: list[str]) -> list[str]:
    """Currency signs moved to the number behind them, brackets and percent signs to the number before."""
    cells = list(row)
    for column in range(len(cells) - 1):
        following = cells[column + 1]
        if cells[column] in _LEADING_SIGNS and _AMOUNT.match(following):
            cells[column], cells[column + 1] = "", cells[column] + following
    for column in range(1, len(cells)):
        if cells[column] in _TRAILING_SIGNS and cells[column - 1][-1:].isdigit():
            cells[column - 1], cells[column] = cells[column - 1] + cells[column], ""
    return cells
