"""Word documents (.docx): paragraphs, headings, numbered lists, tables, text boxes and notes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

from indexing.loaders.archive import Archive
from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.office import core_properties, main_part
from indexing.loaders.source import SourceFile
from indexing.loaders.word_styles import Numbering, Styles
from indexing.loaders.xml_tree import attribute, children, descendants, first, local_name
from indexing.types import LoadedText

# Deleted text, field codes, fallback copies of drawings, and properties.
# fmt: off
_LEFT_OUT = {
    "del", "moveFrom", "delText", "instrText", "Fallback", "pPr", "rPr", "sectPr", "tblPr", "tcPr",
    "sdtPr", "proofErr",
}
# fmt: on
_SPACES = re.compile(" {2,}")
_SCRIPTS = ("sSup", "sSub", "sSubSup")
_WRITTEN_AS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}


def load_docx(source: SourceFile) -> LoadedText:
    """A Word document; tracked insertions are in, deletions are out, footnotes stand at the end."""
    with Archive(source) as archive:
        path = main_part(archive, "word/document.xml")
        document = archive.xml(path)
        folder = path.rpartition("/")[0]
        title, metadata = core_properties(archive)
        styles = Styles(archive.optional_xml(f"{folder}/styles.xml"))
        writer = _Writer(
            TextBuilder(source.limits.text_chars),
            styles,
            Numbering(archive.optional_xml(f"{folder}/numbering.xml"), styles),
        )
        body = first(document, "body")
        writer.write_all(document if body is None else body)
        for notes in ("footnotes", "endnotes"):
            writer.write_notes(archive.optional_xml(f"{folder}/{notes}.xml"))
        return writer.builder.finish(title=title or writer.title, metadata=metadata)


class _Writer:
    def __init__(self, builder: TextBuilder, styles: Styles, numbering: Numbering) -> None:
        self.builder = builder
        self.title: str | None = None
        self._styles = styles
        self._numbering = numbering

    def write_all(self, parent: etree._Element) -> None:
        """The paragraphs and tables below an element, in order."""
        for child in children(parent):
            name = local_name(child)
            if name == "p":
                self._write_paragraph(child)
            elif name == "tbl":
                self._write_table(child)
            elif name not in _LEFT_OUT:
                self.write_all(child)

    def write_notes(self, notes: etree._Element | None) -> None:
        """Footnotes or endnotes, each with the number its reference has in the text."""
        if notes is None:
            return
        for note in children(notes, "footnote", "endnote"):
            text = squeeze(" ".join(_text(paragraph) for paragraph in descendants(note, "p")))
            if text and attribute(note, "type") is None:
                self.builder.paragraph(f"[{attribute(note, 'id')}] {text}")

    def _write_paragraph(self, paragraph: etree._Element) -> None:
        text = _SPACES.sub(" ", _text(paragraph)).strip()
        style = self._styles.of(paragraph)
        if text:
            label, depth = self._numbering.label(paragraph)
            level = self._styles.heading_level(paragraph)
            if level is not None:
                self.builder.heading(f"{label} {text}" if label and label != "-" else text, level)
                if self._styles.is_title(style) and self.title is None:
                    self.title = squeeze(text)
            elif label:
                self.builder.item(f"{'  ' * depth}{label} {text}")
            elif self._styles.is_code(style):
                self.builder.code(text)
            else:
                self.builder.paragraph(text)
        for box in _text_boxes(paragraph):
            self.write_all(box)

    def _write_table(self, table: etree._Element) -> None:
        rows = [list(_below(row, "tc")) for row in _below(table, "tr")]
        if sum(len(row) for row in rows) == 1:  # a frame around paragraphs
            self.write_all(rows[0][0] if rows[0] else table)
            return
        self.builder.table([[_cell_text(cell) for cell in row] for row in rows])


def _below(parent: etree._Element, name: str) -> Iterator[etree._Element]:
    """Rows or cells of a table, also within content controls and tracked changes."""
    for child in children(parent):
        found = local_name(child)
        if found == name:
            yield child
        elif found in ("sdt", "sdtContent", "customXml", "ins", "smartTag"):
            yield from _below(child, name)


def _cell_text(cell: etree._Element) -> str:
    merge = first(cell, "tcPr", "vMerge")
    if merge is not None and attribute(merge, "val") != "restart":
        return ""
    return squeeze(" ".join(_text(paragraph) for paragraph in descendants(cell, "p")))


def _text(element: etree._Element) -> str:
    """The words of a paragraph, without those of text boxes in it."""
    return "".join(_pieces(element))


def _pieces(element: etree._Element) -> Iterator[str]:
    for child in children(element):
        name = local_name(child)
        if name == "t":
            yield child.text or ""
        elif name in _WRITTEN_AS:
            yield _WRITTEN_AS[name]
        elif name == "sym":
            yield _symbol(child)
        elif name in ("footnoteReference", "endnoteReference"):
            yield f"[{attribute(child, 'id')}]"
        elif name == "f":  # a fraction of a formula
            yield "/".join(
                f"({part})" if len(part) > 1 else part for part in map(_text, children(child, "num", "den"))
            )
        elif name in ("sup", "sub") and local_name(element) in _SCRIPTS:
            yield ("^" if name == "sup" else "_") + _braced(_text(child))
        elif name in ("oMath", "func"):  # one formula may stand right beside the next
            yield f" {_text(child)} "
        elif name == "fName":
            yield f"{_text(child)} "
        elif name not in _LEFT_OUT and name != "txbxContent":
            yield from _pieces(child)


def _braced(text: str) -> str:
    return text if len(text) == 1 else f"{{{text}}}"


def _symbol(element: etree._Element) -> str:
    try:
        code = int(attribute(element, "char") or "", 16)
    except ValueError:
        return ""
    return "•" if 0xF000 <= code <= 0xF0FF else chr(code) if code < 0x110000 else ""


def _text_boxes(paragraph: etree._Element) -> Iterator[etree._Element]:
    for child in children(paragraph):
        name = local_name(child)
        if name == "txbxContent":
            yield child
        elif name not in _LEFT_OUT:
            yield from _text_boxes(child)
