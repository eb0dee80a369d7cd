"""Excel workbooks (.xlsx): each sheet a heading, its rows as lines of tables, comments after them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from lxml import etree

from indexing.errors import LoadError
from indexing.loaders.archive import Archive
from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.office import Relationship, core_properties, main_part, relationships
from indexing.loaders.source import SourceFile
from indexing.loaders.xml_tree import all_text, attribute, children, descendants, first, local_name
from indexing.types import LoadedText

Row = dict[int, str]

_BUILT_IN_DATES = frozenset((*range(14, 23), *range(27, 37), 45, 46, 47, *range(50, 59)))
_BUILT_IN_PERCENTS = frozenset((9, 10))
_QUOTED = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
_THREADED = re.compile(r"^\[Threaded comment\].*?Comment: ", re.S)  # advice to those with an older Excel
_MAX_SERIAL = 2_958_465  # 9999-12-31


def load_xlsx(source: SourceFile) -> LoadedText:
    """A workbook: what its cells show, dates as ISO 8601; formulas are given by their last values."""
    with Archive(source) as archive:
        path = main_part(archive, "xl/workbook.xml")
        workbook = archive.xml(path)
        links = relationships(archive, path)
        strings = _shared_strings(archive, _target(links, "sharedStrings"))
        styles = archive.optional_xml(_target(links, "styles"))
        cells = _Cells(strings, _formats(styles), _epoch(workbook))
        builder = TextBuilder(source.limits.text_chars)
        for number, sheet in enumerate(descendants(workbook, "sheet"), start=1):
            link = links.get(next((str(v) for k, v in sheet.attrib.items() if str(k).endswith("}id")), ""))
            if link is None or link.kind != "worksheet" or link.target not in archive:
                continue
            builder.page(number)
            rows = list(_rows(archive.read(link.target), cells))
            comments = list(_comments(archive, link.target))
            if rows or comments:
                builder.heading(attribute(sheet, "name") or f"Sheet {number}", 1)
            write_regions(builder, rows)
            for comment in comments:
                builder.paragraph(comment)
        title, metadata = core_properties(archive)
        return builder.finish(title=title, metadata=metadata)


def _target(links: dict[str, Relationship], kind: str) -> str:
    return next((link.target for link in links.values() if link.kind == kind), "")


def write_regions(builder: TextBuilder, rows: list[Row]) -> None:
    """Append the rows of a sheet as tables parted by empty rows, without the columns empty in a table."""
    region: list[Row] = []
    for row in [*rows, {}]:
        if row:
            region.append(row)
            continue
        columns = sorted({column for filled in region for column in filled})
        if len(columns) * len(region) == 1:
            builder.paragraph(region[0][columns[0]])
        elif region:
            builder.table([[filled.get(column, "") for column in columns] for filled in region])
        region = []


def _shared_strings(archive: Archive, path: str) -> list[str]:
    if path not in archive:
        return []
    strings = []
    for element in _stream(archive.read(path), "si"):
        strings.append("".join(part.text or "" for part in _visible_texts(element)))
    return strings


def _visible_texts(element: etree._Element) -> Iterator[etree._Element]:
    """Text runs, without the readings over East Asian words."""
    for child in children(element):
        if local_name(child) == "t":
            yield child
        elif local_name(child) != "rPh":
            yield from _visible_texts(child)


def _stream(data: bytes, name: str) -> Iterator[etree._Element]:
    """Elements with a local name one after the other, each freed once it is used."""
    events = etree.iterparse(
        io.BytesIO(data),
        events=("end",),
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
    )
    try:
        for _, element in events:
            if local_name(element) == name:
                yield element
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
    except etree.XMLSyntaxError as exc:
        raise LoadError("corrupt_file", f"not well-formed XML: {exc}") from exc


class _Cells:
    """Turns cell elements into what they show."""

    def __init__(self, strings: list[str], formats: list[str], epoch: datetime) -> None:
        self._strings = strings
        self._formats = formats
        self._epoch = epoch

    def text(self, cell: etree._Element) -> str:
        """The cell's content as text; empty where it has none."""
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return "".join(part.text or "" for part in _visible_texts(cell))
        element = first(cell, "v")
        value = "" if element is None else element.text or ""
        if kind == "s":
            position = int(value) if value.strip().isdecimal() else -1
            return self._strings[position] if 0 <= position < len(self._strings) else ""
        if kind == "b":
            return "TRUE" if value == "1" else "FALSE"
        if kind != "n" or not value:
            return value
        style = cell.get("s", "0")
        index = int(style) if style.isdecimal() else 0
        return number_text(value, self._formats[index] if index < len(self._formats) else "", self._epoch)


def number_text(value: str, form: str, epoch: datetime) -> str:
    """A number as its format (`date`, `percent` or neither) shows it.

    >>> number_text("45000.5", "date", datetime(1899, 12, 30))
    '2023-03-15 12:00:00'
    >>> number_text("0.30000000000000004", "", datetime(1899, 12, 30))
    '0.3'
    """
    try:
        number = float(value)
    except ValueError:
        return value
    if form == "date" and 0 <= number <= _MAX_SERIAL:
        moment = epoch + timedelta(seconds=round(number * 86400))
        if number < 1:
            return moment.strftime("%H:%M:%S")
        return moment.strftime("%Y-%m-%d" if number == int(number) else "%Y-%m-%d %H:%M:%S")
    if form == "percent":
        return f"{number * 100:.10g}%"
    return f"{number:.15g}" if "e" not in f"{number:.15g}" else value


def _formats(styles: etree._Element | None) -> list[str]:
    """For each cell format: `date`, `percent` or an empty string."""
    if styles is None:
        return []
    custom = {
        attribute(f, "numFmtId"): attribute(f, "formatCode") or "" for f in descendants(styles, "numFmt")
    }
    table = first(styles, "cellXfs")
    return [
        _format_kind(attribute(cell_format, "numFmtId") or "0", custom)
        for cell_format in ([] if table is None else children(table, "xf"))
    ]


def _format_kind(identifier: str, custom: dict[str | None, str]) -> str:
    if identifier in custom:
        code = _QUOTED.sub("", custom[identifier]).lower().partition(";")[0]
        if "general" in code:
            return ""
        return "percent" if "%" in code else "date" if re.search(r"[ymdhs]", code) else ""
    number = int(identifier) if identifier.isdecimal() else 0
    return "date" if number in _BUILT_IN_DATES else "percent" if number in _BUILT_IN_PERCENTS else ""


def _epoch(workbook: etree._Element) -> datetime:
    properties = first(workbook, "workbookPr")
    uses_1904 = properties is not None and attribute(properties, "date1904") in ("1", "true")
    return datetime(1904, 1, 1) if uses_1904 else datetime(1899, 12, 30)


def _rows(data: bytes, cells: _Cells) -> Iterator[Row]:
    """Columns and texts of each row; an empty row stands for any number of them."""
    last_number = 0
    for element in _stream(data, "row"):
        given = element.get("r", "")
        number = int(given) if given.isdecimal() else last_number + 1
        row: Row = {}
        for position, cell in enumerate(children(element, "c")):
            if text := squeeze(cells.text(cell)):
                row[_column(cell.get("r", ""), position)] = text
        if row:
            if number > last_number + 1 and last_number:
                yield {}
            last_number = number
            yield row


def _column(reference: str, position: int) -> int:
    """The column of a reference such as `AB12`, counted from 0; `position` where it names none."""
    column = 0
    for letter in reference.upper():
        if not "A" <= letter <= "Z":
            break
        column = column * 26 + ord(letter) - ord("A") + 1
    return column - 1 if 0 < column < 1 << 20 else position


def _comments(archive: Archive, sheet: str) -> Iterator[str]:
    for link in relationships(archive, sheet).values():
        root = archive.optional_xml(link.target) if link.kind == "comments" else None
        for comment in [] if root is None else descendants(root, "comment"):
            if text := _THREADED.sub("", all_text(comment)):
                yield f"Comment on {attribute(comment, 'ref')}: {text}"
