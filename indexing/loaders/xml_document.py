"""XML: journal articles (JATS) with their sections, any other vocabulary by its titles, paragraphs and tables."""

from __future__ import annotations

import re

from lxml import etree

from indexing.loaders.canonical import TextBuilder, clean, squeeze
from indexing.loaders.html import load_html
from indexing.loaders.source import SourceFile
from indexing.loaders.xml_tree import all_text, attribute, children, descendants, local_name, parse_xml
from indexing.types import LoadedText, Scalar

_TITLES = frozenset(
    ["title", "heading", "head", "article-title", "invention-title", "title-of-invention", "label-title"]
)
_PARAGRAPHS = frozenset(
    [
        "p",
        "para",
        "simpara",
        "paragraph",
        "claim-text",
        "description",
        "summary",
        "content",
        "abstract-text",
        "line",
        "l",
        "text",
    ]
)
_SECTIONS = frozenset(
    [
        "sec",
        "section",
        "chapter",
        "abstract",
        "body",
        "back",
        "front",
        "app",
        "appendix",
        "sect1",
        "sect2",
        "sect3",
        "div",
        "part",
        "claims",
        "item",
        "entry",
    ]
)
_ROWS, _CELLS = ("tr", "row"), ("td", "th", "entry", "cell")
_CODE = frozenset(["programlisting", "screen", "code", "preformat", "codeblock", "verbatim"])
_SKIPPED = frozenset(
    [
        "journal-meta",
        "article-id",
        "pub-date",
        "history",
        "permissions",
        "self-uri",
        "counts",
        "funding-group",
        "custom-meta-group",
        "xref-group",
        "alternatives",
        "graphic",
        "object-id",
        "contrib-id",
        "related-article",
    ]
)
_JATS_SKIPPED = frozenset(
    [
        "article-categories",
        "contrib-group",
        "aff",
        "author-notes",
        "volume",
        "issue",
        "elocation-id",
        "kwd-group",
        "fpage",
        "lpage",
        "pub-date",
    ]
)
_SPACES = re.compile(r"\s+")
_BREAKS = frozenset(["td", "th", "entry", "p", "para", "title", "label", "li", "item"])


def load_xml(source: SourceFile) -> LoadedText:
    """An XML document; XHTML is read as HTML."""
    root = parse_xml(source.data())
    if local_name(root).lower() == "html":
        return load_html(source)
    builder = TextBuilder(source.limits.text_chars)
    article = local_name(root) == "article" or next(descendants(root, "article-meta"), None) is not None
    if article:
        title, metadata = _write_front(builder, root)
        _Walk(builder, _SKIPPED | _JATS_SKIPPED | {"title-group"}).write(root, 1 if title else 0)
        return builder.finish(title=title, metadata=metadata)
    _Walk(builder, _SKIPPED).write(root, 0)
    return builder.finish(title=next((all_text(found) for found in descendants(root, *_TITLES)), None))


def _write_front(
    builder: TextBuilder, root: etree._Element
) -> tuple[str | None, dict[str, Scalar | list[str]]]:
    """Title, authors and keywords of a journal article."""
    meta = next(descendants(root, "article-meta"), root)
    title = next((all_text(found) for found in descendants(meta, "article-title", "title")), None)
    metadata: dict[str, Scalar | list[str]] = {}
    authors = [
        squeeze(
            f"{all_text(next(descendants(name, 'given-names'), None))} {all_text(next(descendants(name, 'surname'), None))}"
        )
        for contributor in descendants(meta, "contrib")
        if attribute(contributor, "contrib-type") in (None, "author")
        for name in children(contributor, "name")
    ]
    for name, values in (("authors", authors), ("keywords", [all_text(k) for k in descendants(meta, "kwd")])):
        if any(values):
            metadata[name] = [value for value in values if value]
    for field in descendants(root, "journal-title"):
        metadata["journal"] = all_text(field)
    for identifier in children(meta, "article-id"):
        if attribute(identifier, "pub-id-type") == "doi":
            metadata["doi"] = all_text(identifier)
    if title:
        builder.heading(title, 1)
    if authors:
        builder.paragraph(", ".join(filter(None, authors)))
    return title, metadata


class _Walk:
    """Writes elements by what their names and their content say they are."""

    def __init__(self, builder: TextBuilder, skipped: frozenset[str]) -> None:
        self._builder = builder
        self._skipped = skipped
        self._last_was_field = False

    def write(self, element: etree._Element, level: int) -> None:
        """An element; `level` is that of the last heading above it."""
        name = local_name(element)
        if not name or name in self._skipped:
            return
        if name in _TITLES:
            self._paragraph_or_heading(element, level)
        elif name in _CODE and "\n" in (element.text or ""):
            self._builder.code("".join(element.itertext()))
        elif next(descendants(element, *_ROWS), None) is not None and name in (
            "table",
            "tgroup",
            "informaltable",
        ):
            self._table(element)
        elif name in ("ref-list", "list", "itemizedlist", "orderedlist", "ul", "ol", "variablelist"):
            self._list(element, level)
        elif len(element) == 0:
            self._leaf(element)
        elif name in _PARAGRAPHS or _is_mixed(element):
            self._mixed(element, level)
        else:
            inner = (
                level + 1
                if name in _SECTIONS or next(children(element, *_TITLES), None) is not None
                else level
            )
            for child in element:
                self.write(child, inner)

    def _paragraph_or_heading(self, element: etree._Element, level: int) -> None:
        label = next((all_text(found) for found in element.itersiblings("{*}label", preceding=True)), "")
        text = _inline_text(element)
        heading = f"{label} {text}" if label and not text.startswith(label) else text
        self._builder.heading(heading, max(1, min(level, 6)))
        self._last_was_field = False

    def _table(self, element: etree._Element) -> None:
        rows = [
            [_inline_text(cell) for cell in children(row, *_CELLS)] for row in descendants(element, *_ROWS)
        ]
        self._builder.table(rows)

    def _list(self, element: etree._Element, level: int) -> None:
        with self._builder.block("list"):
            for child in children(element):
                if local_name(child) in _TITLES:
                    self._paragraph_or_heading(child, level + 1)
                elif text := _inline_text(child):
                    self._builder.line(f"- {text}")

    def _leaf(self, element: etree._Element) -> None:
        """An element without children: a paragraph, or a field with its name."""
        text = squeeze(element.text or "")
        name = local_name(element)
        if not text or (name == "label" and _has_title(element)):
            return
        if name in _PARAGRAPHS or len(text) > 100:
            self._builder.paragraph(text)
            self._last_was_field = False
            return
        (self._builder.line if self._last_was_field else self._builder.paragraph)(f"{name}: {text}")
        self._last_was_field = True

    def _mixed(self, element: etree._Element, level: int) -> None:
        """A paragraph; lists, tables and code within it stand on their own."""
        self._last_was_field = False
        parts: list[str] = [element.text or ""]
        for child in element:
            name = local_name(child)
            if _stands_alone(child):
                self._builder.paragraph(squeeze("".join(parts)))
                parts = []
                self.write(child, level)
            elif name and name not in self._skipped:
                parts.append(_inline_text(child, trim=False))
            parts.append(child.tail or "")
        self._builder.paragraph(squeeze("".join(parts)))


def _stands_alone(element: etree._Element) -> bool:
    name = local_name(element)
    inner = _PARAGRAPHS - {"line", "l", "text"}
    return name in _CODE | inner | {
        "list",
        "ul",
        "ol",
        "table",
        "table-wrap",
        "fig",
        "disp-quote",
        "itemizedlist",
        "orderedlist",
        "boxed-text",
        "tgroup",
    }


def _has_title(element: etree._Element) -> bool:
    parent = element.getparent()
    return parent is not None and next(children(parent, *_TITLES), None) is not None


def _is_mixed(element: etree._Element) -> bool:
    return bool((element.text or "").strip()) or any((child.tail or "").strip() for child in element)


def _inline_text(element: etree._Element, *, trim: bool = True) -> str:
    """The words of an element on one line; blocks within it are parted by spaces."""
    parts: list[str] = []
    for event, node in etree.iterwalk(element, events=("start", "end")):
        if not local_name(node):
            continue
        if local_name(node) in _BREAKS and node is not element:
            parts.append(" ")
        if event == "start":
            parts.append(node.text or "")
        elif node is not element:
            parts.append(node.tail or "")
    text = _SPACES.sub(" ", clean("".join(parts)))
    return text.strip() if trim else text
