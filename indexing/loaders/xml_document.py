"""XML: journal articles (JATS), and any other vocabulary by its titles, paragraphs and tables."""

from __future__ import annotations

from lxml import etree

from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.html import load_html
from indexing.loaders.source import SourceFile
from indexing.loaders.xml_tree import all_text, attribute, children, descendants, local_name, parse_xml
from indexing.types import LoadedText, Scalar

# fmt: off
_TITLES = {
    "title", "heading", "head", "article-title", "invention-title", "title-of-invention", "subheading",
    "subtitle",
}
_PARAGRAPHS = {
    "p", "para", "simpara", "paragraph", "claim-text", "description", "summary", "content", "abstract-text",
    "text", "line", "l", "note", "quote",
}
_SECTIONS = {
    "sec", "section", "chapter", "abstract", "app", "appendix", "sect1", "sect2", "sect3", "sect4", "div",
    "part",
}
_LISTS = {"ref-list", "list", "itemizedlist", "orderedlist", "ul", "ol", "variablelist"}
_TABLES, _ROWS, _CELLS = {"table", "tgroup", "informaltable"}, ("tr", "row"), ("td", "th", "entry", "cell")
_CODE = {"programlisting", "screen", "code", "preformat", "codeblock", "verbatim"}
_APART = {"fig", "table-wrap", "boxed-text", "disp-quote", "p", "para", "simpara", "claim-text", "tables"}
_BREAKS = {"td", "th", "entry", "p", "para", "title", "label", "li", "item", "list-item"}
_SKIPPED_IN_ARTICLES = {
    "journal-meta", "article-id", "article-categories", "title-group", "contrib-group", "aff", "author-notes",
    "pub-date", "volume", "issue", "elocation-id", "fpage", "lpage", "history", "permissions", "self-uri",
    "counts", "funding-group", "custom-meta-group", "kwd-group", "related-article", "alternatives", "graphic",
    "object-id",
}
# fmt: on
_MAX_FIELD_CHARS = 100
_MIN_PROSE_SHARE = 0.6


def load_xml(source: SourceFile) -> LoadedText:
    """An XML document; XHTML is read as HTML.

    Short elements that hold nothing but a value are fields, written as `name: value`. In a document of mostly
    running text they stand at the end, so that it begins with its title.
    """
    root = parse_xml(source.data())
    if local_name(root).lower() == "html":
        return load_html(source)
    builder = TextBuilder(source.limits.text_chars)
    if local_name(root) == "article" or next(descendants(root, "article-meta"), None) is not None:
        title, metadata = _write_front(builder, root)
        _Walk(builder, skipped=_SKIPPED_IN_ARTICLES, fields_last=True).write_all(root, 1 if title else 0)
        return builder.finish(title=title, metadata=metadata)
    n_prose = sum(len(all_text(found)) for found in descendants(root, *_PARAGRAPHS))
    n_all = sum(len(text.strip()) for text in root.itertext())
    _Walk(builder, skipped=set(), fields_last=n_prose > _MIN_PROSE_SHARE * n_all).write_all(root, 0)
    return builder.finish(title=next((all_text(found) for found in descendants(root, *_TITLES)), None))


def _write_front(
    builder: TextBuilder, root: etree._Element
) -> tuple[str | None, dict[str, Scalar | list[str]]]:
    """Write title and authors of a journal article; returns the title and the metadata."""
    meta = next(descendants(root, "article-meta"), root)
    title = next((all_text(found) for found in descendants(meta, "article-title", "title")), None)
    authors = [
        squeeze(
            " ".join(all_text(next(descendants(name, part), None)) for part in ("given-names", "surname"))
        )
        for contributor in descendants(meta, "contrib")
        if attribute(contributor, "contrib-type") in (None, "author")
        for name in children(contributor, "name")
    ]
    metadata: dict[str, Scalar | list[str]] = {
        "authors": [author for author in authors if author],
        "keywords": [all_text(keyword) for keyword in descendants(meta, "kwd")],
    }
    for field in descendants(root, "journal-title"):
        metadata.setdefault("journal", all_text(field))
    for identifier in children(meta, "article-id"):
        if attribute(identifier, "pub-id-type") == "doi":
            metadata["doi"] = all_text(identifier)
    builder.heading(title or "", 1)
    builder.paragraph(", ".join(author for author in authors if author))
    return title, metadata


class _Walk:
    """Writes elements by what their names and their content say they are."""

    def __init__(self, builder: TextBuilder, *, skipped: set[str], fields_last: bool) -> None:
        self._builder = builder
        self._skipped = skipped
        self._fields: list[str] = []
        self._fields_last = fields_last

    def write_all(self, root: etree._Element, level: int) -> None:
        """A whole document; `level` is that of the heading above it, 0 where there is none."""
        self._write(root, level)
        self._flush_fields()

    def _write(self, element: etree._Element, level: int) -> None:
        name = local_name(element)
        if not name or name in self._skipped:
            return
        if name in _TITLES:
            self._heading(element, level)
        elif name == "caption":
            self._paragraph(_captioned(element))
        elif name in _CODE and "\n" in (element.text or ""):
            self._builder.code("".join(element.itertext()))
        elif name in _TABLES and next(descendants(element, *_ROWS), None) is not None:
            self._table(element)
        elif name in _LISTS:
            self._list(element, level)
        elif len(element) == 0:
            self._leaf(element)
        elif name in _PARAGRAPHS or _is_mixed(element):
            self._mixed(element, level)
        else:
            self._container(element, level)

    def _container(self, element: etree._Element, level: int) -> None:
        has_title = next(children(element, *_TITLES), None) is not None
        inner = level + 1 if has_title or local_name(element) in _SECTIONS else level
        if local_name(element) == "abstract" and not has_title:
            self._builder.heading("Abstract", _heading_level(inner))
        for child in element:
            self._write(child, inner)

    def _paragraph(self, text: str) -> None:
        if text and not self._fields_last:
            self._flush_fields()
        self._builder.paragraph(text)

    def _flush_fields(self) -> None:
        self._builder.paragraph("\n".join(self._fields))
        self._fields.clear()

    def _heading(self, element: etree._Element, level: int) -> None:
        parent = element.getparent()
        label = "" if parent is None else next((all_text(found) for found in children(parent, "label")), "")
        text = _inline_text(element)
        if text and not self._fields_last:
            self._flush_fields()
        self._builder.heading(text if text.startswith(label) else f"{label} {text}", _heading_level(level))

    def _table(self, element: etree._Element) -> None:
        self._builder.table(
            [[_inline_text(cell) for cell in children(row, *_CELLS)] for row in descendants(element, *_ROWS)]
        )

    def _list(self, element: etree._Element, level: int) -> None:
        for child in children(element):
            if local_name(child) in _TITLES:
                self._heading(child, level + 1)
            elif text := _inline_text(child):
                self._builder.item(f"- {text}")

    def _leaf(self, element: etree._Element) -> None:
        """An element without children: a paragraph, or a field with its name."""
        text = squeeze(element.text or "")
        name = local_name(element)
        if not text or (name == "label" and _has_title_or_caption(element)):
            return
        if name in _PARAGRAPHS or len(text) > _MAX_FIELD_CHARS:
            self._paragraph(text)
        else:
            self._fields.append(f"{name}: {text}")

    def _mixed(self, element: etree._Element, level: int) -> None:
        """A paragraph; headings, lists, tables and code within it stand on their own."""
        parts: list[str] = [element.text or ""]
        for child in element:
            name = local_name(child)
            if name in _TITLES | _LISTS | _TABLES | _CODE | _APART:
                self._paragraph(squeeze("".join(parts)))
                parts = []
                self._write(child, level)
            elif name and name not in self._skipped:
                parts.append(_inline_text(child, trim=False))
            parts.append(child.tail or "")
        self._paragraph(squeeze("".join(parts)))


def _heading_level(level: int) -> int:
    return max(1, min(level, 6))


def _captioned(caption: etree._Element) -> str:
    """Label, title and words of a figure or a table, on one line."""
    parent = caption.getparent()
    label = "" if parent is None else next((all_text(found) for found in children(parent, "label")), "")
    return squeeze(f"{label} {_inline_text(caption)}")


def _has_title_or_caption(element: etree._Element) -> bool:
    parent = element.getparent()
    return parent is not None and next(children(parent, "caption", *_TITLES), None) is not None


def _is_mixed(element: etree._Element) -> bool:
    return bool((element.text or "").strip()) or any((child.tail or "").strip() for child in element)


def _inline_text(element: etree._Element, *, trim: bool = True) -> str:
    """The words of an element on one line; fields and blocks side by side in it are parted by spaces."""
    mixed: dict[etree._Element, bool] = {}
    parts: list[str] = []
    for event, node in etree.iterwalk(element, events=("start", "end")):
        if not local_name(node):
            continue
        if node is not element:
            parent = node.getparent()
            if parent not in mixed:
                mixed[parent] = _is_mixed(parent)
            if local_name(node) in _BREAKS or not mixed[parent]:
                parts.append(" ")
        if event == "start":
            parts.append(node.text or "")
        elif node is not element:
            parts.append(node.tail or "")
    text = "".join(parts)
    return squeeze(text) if trim else text
