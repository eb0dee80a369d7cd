"""PowerPoint presentations (.pptx): each slide is a page, its title a heading."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

from indexing.errors import LoadError
from indexing.loaders.archive import Archive
from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.office import core_properties, main_part, relationships
from indexing.loaders.source import SourceFile
from indexing.loaders.xml_tree import attribute, children, descendants, first, local_name
from indexing.types import LoadedText

_TITLE_TYPES = ("title", "ctrTitle")
_NO_TITLE = re.compile(r"\s*(powerpoint[ -].*|slide \d+|presentation ?\d*|untitled.*)$", re.I)
_FURNITURE_TYPES = ("sldNum", "dt", "ftr", "hdr", "sldImg")


def load_pptx(source: SourceFile) -> LoadedText:
    """A presentation: text, tables, diagrams and charts' words of each slide, then its speaker notes."""
    with Archive(source) as archive:
        builder = TextBuilder(source.limits.text_chars)
        for number, path in enumerate(_slide_paths(archive), start=1):
            slide = archive.optional_xml(path)
            if slide is not None:
                builder.page(number)
                _write_slide(builder, archive, path, slide)
        title, metadata = core_properties(archive)
        return builder.finish(title=given_title(title), metadata=metadata)


def given_title(title: str | None) -> str | None:
    """The title, unless it is one that PowerPoint writes where nobody gave any."""
    return None if title is None or _NO_TITLE.match(title) else title


def _slide_paths(archive: Archive) -> list[str]:
    path = main_part(archive, "ppt/presentation.xml")
    presentation = archive.xml(path)
    links = relationships(archive, path)
    identifiers = (_relation_id(slide) for slide in descendants(presentation, "sldId"))
    paths = [links[identifier].target for identifier in identifiers if identifier in links]
    present = [path for path in paths if path in archive]
    if paths and not present:
        raise LoadError("corrupt_file", "the presentation has none of its slides")
    return present


def _relation_id(element: etree._Element) -> str:
    """`r:id`, which stands beside a plain `id`."""
    return next((str(value) for key, value in element.attrib.items() if str(key).endswith("}id")), "")


def _write_slide(builder: TextBuilder, archive: Archive, path: str, slide: etree._Element) -> None:
    shapes = list(_shapes(slide))
    for shape in sorted(shapes, key=lambda shape: _placeholder(shape) not in _TITLE_TYPES):
        kind = _placeholder(shape)
        table = next(descendants(shape, "tbl"), None) if local_name(shape) == "graphicFrame" else None
        if kind in _FURNITURE_TYPES:
            continue
        if table is not None:
            builder.table([[_joined(cell) for cell in children(row, "tc")] for row in children(table, "tr")])
        elif kind in _TITLE_TYPES:
            builder.heading(_joined(shape), 1)
        else:
            _write_body(builder, shape)
    links = relationships(archive, path).values()
    for link in links:
        if link.kind in ("diagramData", "chart"):
            _write_words(builder, archive.optional_xml(link.target))
    for link in links:
        if link.kind == "notesSlide":
            _write_notes(builder, archive.optional_xml(link.target))


def _shapes(parent: etree._Element) -> Iterator[etree._Element]:
    """Shapes with text and frames of tables, groups opened, fallback copies left out."""
    for child in children(parent):
        name = local_name(child)
        if name in ("sp", "graphicFrame", "cxnSp"):
            yield child
        elif name not in ("Fallback", "nvGrpSpPr", "extLst"):
            yield from _shapes(child)


def _placeholder(shape: etree._Element) -> str | None:
    placeholder = next(descendants(shape, "ph"), None)
    return None if placeholder is None else attribute(placeholder, "type") or "body"


def _write_body(builder: TextBuilder, shape: etree._Element) -> None:
    """The paragraphs of a shape; those that belong together stand on lines of their own."""
    body = next(descendants(shape, "txBody"), None)
    if body is None:
        return
    paragraphs = []
    for paragraph in children(body, "p"):
        properties = first(paragraph, "pPr")
        level = "" if properties is None else attribute(properties, "lvl") or ""
        if text := _text(paragraph):
            paragraphs.append("  " * min(int(level) if level.isdecimal() else 0, 8) + text)
    if len(paragraphs) > 1:
        with builder.block("list"):
            builder.paragraph("\n".join(paragraphs))
    else:
        builder.paragraph("\n".join(paragraphs))


def _write_words(builder: TextBuilder, root: etree._Element | None) -> None:
    if root is not None:
        builder.paragraph("\n".join(filter(None, (_text(paragraph) for paragraph in descendants(root, "p")))))


def _write_notes(builder: TextBuilder, notes: etree._Element | None) -> None:
    for shape in [] if notes is None else _shapes(notes):
        if _placeholder(shape) == "body" and (text := _joined(shape)):
            builder.paragraph(f"Notes: {text}")


def _joined(element: etree._Element) -> str:
    return squeeze(" ".join(_text(paragraph) for paragraph in descendants(element, "p")))


def _text(paragraph: etree._Element) -> str:
    """The words of a paragraph; a line break within it stays one."""
    parts = []
    for element in descendants(paragraph, "t", "br"):
        parts.append("\n" if local_name(element) == "br" else element.text or "")
    return "\n".join(filter(None, (squeeze(line) for line in "".join(parts).replace("\v", "\n").split("\n"))))
