"""OpenDocument texts, presentations and spreadsheets (.odt, .odp, .ods)."""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from indexing.errors import LoadError
from indexing.loaders.archive import Archive
from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.sheets import Row, write_regions
from indexing.loaders.source import SourceFile
from indexing.loaders.xml_tree import all_text, attribute, children, descendants, first, local_name, parse_xml
from indexing.types import LoadedText, Scalar

# fmt: off
_LEFT_OUT = {
    "tracked-changes", "annotation", "annotation-end", "sequence-decls", "forms", "variable-decls",
    "bookmark", "settings", "table-of-content-source", "alphabetical-index-source", "object-ole",
}
# fmt: on
_FIELDS = {
    "creator": "author",
    "initial-creator": "author",
    "subject": "subject",
    "keyword": "keywords",
    "date": "modified",
}
_MAX_REPEATS = 1000


def load_open_document(source: SourceFile) -> LoadedText:
    """A document: slides are pages, sheets are headings with tables, tracked deletions are left out."""
    if source.extension == "fodt":
        root = parse_xml(source.data())
        return _finish(_Writer(source, root), root, root)
    with Archive(source) as archive:
        manifest = archive.optional_xml("META-INF/manifest.xml")
        if manifest is not None and next(descendants(manifest, "encryption-data"), None) is not None:
            raise LoadError("encrypted_file", "the document is protected with a password")
        content = archive.xml("content.xml")
        return _finish(_Writer(source, content), content, archive.optional_xml("meta.xml"))


def _finish(writer: _Writer, content: etree._Element, meta: etree._Element | None) -> LoadedText:
    body = next(descendants(content, "body"), content)
    for part in children(body):
        match local_name(part):
            case "presentation" | "drawing":
                for number, slide in enumerate(children(part, "page"), start=1):
                    writer.write_slide(slide, number)
            case "spreadsheet":
                for number, table in enumerate(children(part, "table"), start=1):
                    writer.write_sheet(table, number)
            case _:
                writer.write_all(part)
    title, metadata = _properties(meta)
    return writer.builder.finish(title=title or writer.title, metadata=metadata)


def _properties(meta: etree._Element | None) -> tuple[str | None, dict[str, Scalar | list[str]]]:
    root = None if meta is None else next(descendants(meta, "meta"), None)
    if root is None:
        return None, {}
    fields = {local_name(element): all_text(element) for element in children(root)}
    metadata: dict[str, Scalar | list[str]] = {
        name: fields[field] for field, name in _FIELDS.items() if fields.get(field)
    }
    return fields.get("title") or None, metadata


class _Writer:
    def __init__(self, source: SourceFile, content: etree._Element) -> None:
        self.builder = TextBuilder(source.limits.text_chars)
        self.title: str | None = None
        self._parents = {
            attribute(style, "name"): attribute(style, "parent-style-name")
            for style in descendants(content, "style")
        }

    def write_all(self, parent: etree._Element) -> None:
        """Headings, paragraphs, lists and tables below an element, in order."""
        for child in children(parent):
            match local_name(child):
                case "h":
                    level = attribute(child, "outline-level") or "1"
                    self.builder.heading(_text(child), int(level) if level.isdecimal() else 1)
                    self._write_frames(child)
                case "p":
                    self._write_paragraph(child)
                case "list":
                    self._write_list(child, 0)
                case "table":
                    self._write_table(child)
                case name if name not in _LEFT_OUT:
                    self.write_all(child)

    def write_slide(self, slide: etree._Element, number: int) -> None:
        """A slide: its title first, then its other shapes, then its notes."""
        self.builder.page(number)
        shapes = [shape for shape in children(slide) if local_name(shape) not in ("notes", *_LEFT_OUT)]
        titles = [shape for shape in shapes if attribute(shape, "class") == "title"]
        for shape in titles:
            self.builder.heading(squeeze(" ".join(_text(p) for p in descendants(shape, "p", "h"))), 1)
        for shape in shapes:
            if shape not in titles:
                self.write_all(shape) if local_name(shape) != "p" else self._write_paragraph(shape)
        for notes in children(slide, "notes"):
            text = squeeze(" ".join(_text(p) for p in descendants(notes, "p")))
            self.builder.paragraph(f"Notes: {text}" if text else "")

    def write_sheet(self, table: etree._Element, number: int) -> None:
        """A sheet: its name, then its rows."""
        rows = list(_sheet_rows(table))
        self.builder.page(number)
        if any(rows):
            self.builder.heading(attribute(table, "name") or f"Sheet {number}", 1)
            write_regions(self.builder, rows)

    def _write_paragraph(self, paragraph: etree._Element) -> None:
        text = _text(paragraph)
        style = attribute(paragraph, "style-name")
        if "Title" in (style, self._parents.get(style)) and text.strip():
            self.title = self.title or squeeze(text)
            self.builder.heading(text, 1)
        else:
            self.builder.paragraph(text)
        self._write_frames(paragraph)

    def _write_frames(self, paragraph: etree._Element) -> None:
        """Text boxes anchored in a paragraph."""
        for box in descendants(paragraph, "text-box"):
            self.write_all(box)

    def _write_list(self, element: etree._Element, depth: int) -> None:
        for item in children(element, "list-item", "list-header"):
            prefix = "  " * min(depth, 8) + "- "
            for child in children(item):
                match local_name(child):
                    case "p" | "h":
                        if text := squeeze(_text(child)):
                            self.builder.item(prefix + text)
                            prefix = "  " * min(depth + 1, 8)
                        self._write_frames(child)
                    case "list":
                        self._write_list(child, depth + 1)

    def _write_table(self, table: etree._Element) -> None:
        self.builder.table(
            [
                [_cell_text(cell) for cell in children(row, "table-cell", "covered-table-cell")]
                for row in _table_rows(table)
            ]
        )


def _table_rows(table: etree._Element) -> Iterator[etree._Element]:
    """The rows of a table itself, not those of tables in its cells."""
    for child in children(table):
        name = local_name(child)
        if name == "table-row":
            yield child
        elif name in ("table-header-rows", "table-rows", "table-row-group"):
            yield from _table_rows(child)


def _cell_text(cell: etree._Element) -> str:
    return squeeze(" ".join(_text(paragraph) for paragraph in descendants(cell, "p", "h")))


def _sheet_rows(table: etree._Element) -> Iterator[Row]:
    """Columns and texts of each row; what stands for many rows or cells is repeated, within reason."""
    for element in _table_rows(table):
        row: Row = {}
        column = 0
        for cell in children(element, "table-cell", "covered-table-cell"):
            repeats = _repeats(cell, "number-columns-repeated")
            if text := _cell_text(cell):
                row.update(dict.fromkeys(range(column, column + min(repeats, _MAX_REPEATS)), text))
            column += repeats
        for _ in range(min(_repeats(element, "number-rows-repeated"), _MAX_REPEATS if row else 1)):
            yield row


def _repeats(element: etree._Element, name: str) -> int:
    value = attribute(element, name) or "1"
    return int(value) if value.isdecimal() and len(value) < 9 else 1


def _text(element: etree._Element) -> str:
    return "".join(_pieces(element)).strip()


def _pieces(element: etree._Element) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        match local_name(child):
            case "s":
                count = attribute(child, "c") or "1"
                yield " " * (min(int(count), 100) if count.isdecimal() else 1)
            case "tab":
                yield "\t"
            case "line-break":
                yield "\n"
            case "note":
                body = first(child, "note-body")
                yield f" [{all_text(body)}]" if body is not None else ""
            case "" | "frame" | "annotation" | "text-box" | "custom-shape" | "object":
                pass
            case _:
                yield from _pieces(child)
        yield child.tail or ""
