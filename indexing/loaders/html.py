"""HTML: headings, paragraphs, lists, tables and code, without scripts, navigation and hidden parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Literal

from lxml import etree

from indexing.errors import LoadError
from indexing.loaders.canonical import Metadata, TextBuilder, clean, squeeze
from indexing.loaders.decoding import decode
from indexing.loaders.html_writer import VOID, HtmlWriter
from indexing.loaders.source import SourceFile
from indexing.loaders.xml_tree import local_name
from indexing.types import LoadedText, Scalar

Event = tuple[Literal["start", "end", "data"], str, Mapping[str, str]]

_DECLARED = re.compile(
    rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w.:-]+)|<\?xml[^>]+encoding\s*=\s*[\"']([\w.:-]+)", re.I
)
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_MIN_MAIN_SHARE = 0.25
_META_FIELDS = {
    "description": "description",
    "author": "author",
    "keywords": "keywords",
    "date": "date",
    "og:site_name": "site",
    "article:published_time": "date",
}


def load_html(source: SourceFile) -> LoadedText:
    """A page; the charset its head declares is honoured."""
    markup = decode_html(source.data())
    builder = TextBuilder(source.limits.text_chars)
    title, metadata = write_html(builder, markup)
    if not len(builder):  # a page that is all navigation or forms
        write_html(builder, markup, keep_all=True)
    return builder.finish(title=title, metadata=metadata)


def decode_html(data: bytes) -> str:
    """The characters of a page."""
    found = _DECLARED.search(data[:4096])
    declared = (found[1] or found[2]).decode("ascii") if found else None
    return decode(data, declared)


def write_html(builder: TextBuilder, markup: str, *, keep_all: bool = False) -> tuple[str | None, Metadata]:
    """Append a page's text to a builder; returns its title and metadata.

    With `keep_all`, navigation and the like are kept; scripts and hidden parts never are.
    """
    markup = clean(markup)
    root, is_whole = _parse(markup)
    if root is None:
        return None, {}
    writer = HtmlWriter(builder, keep_all=keep_all)
    # libxml2 drops what is nested over 2048 deep; the tokenizer of the standard library does not.
    events = _events(root if keep_all else _main_part(root)) if is_whole else _tokens(markup)
    for kind, name, attributes in events:
        if kind == "start":
            writer.start(name, attributes)
        elif kind == "end":
            writer.end(name)
        else:
            writer.data(name)
    writer.close()
    return _title(root), _metadata(root)


def _parse(markup: str) -> tuple[etree._Element | None, bool]:
    """The root element, and whether the parser kept all of the page."""
    parser = etree.HTMLParser(
        huge_tree=True, remove_comments=True, remove_pis=True, no_network=True, encoding="utf-8"
    )
    try:
        root = etree.fromstring(_XML_DECLARATION.sub("", markup).encode(), parser)
    except etree.XMLSyntaxError as exc:
        raise LoadError("corrupt_file", f"not HTML: {exc}") from exc
    return root, all(error.type_name != "ERR_RESOURCE_LIMIT" for error in parser.error_log)


def _main_part(root: etree._Element) -> etree._Element:
    """The element marked as the page's main content where it holds a fair part of the text, else the root."""
    found = root.xpath("//main | //*[@role='main']")
    if len(found) != 1:
        return root
    n_main, n_all = (len(squeeze("".join(element.itertext()))) for element in (found[0], root))
    return found[0] if n_main >= _MIN_MAIN_SHARE * n_all else root


def _events(root: etree._Element) -> Iterator[Event]:
    for kind, element in etree.iterwalk(root, events=("start", "end")):
        name = local_name(element)
        if kind == "start":
            yield "start", name, element.attrib
            if element.text:
                yield "data", element.text, {}
        else:
            yield "end", name, {}
            if element.tail and element is not root:
                yield "data", element.tail, {}


def _tokens(markup: str) -> Iterator[Event]:
    tokenizer = _Tokenizer(convert_charrefs=True)
    tokenizer.feed(markup)
    tokenizer.close()
    yield from tokenizer.events


class _Tokenizer(HTMLParser):
    """The events of a page as its source has them, balanced or not."""

    def __init__(self, *, convert_charrefs: bool) -> None:
        super().__init__(convert_charrefs=convert_charrefs)
        self.events: list[Event] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.events.append(("start", tag, {name: value or "" for name, value in attrs}))
        if tag in VOID:
            self.events.append(("end", tag, {}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            self.events.append(("end", tag, {}))

    def handle_data(self, data: str) -> None:
        self.events.append(("data", data, {}))


def _title(root: etree._Element) -> str | None:
    for path in ("//head/title", "//title", "//h1"):
        for element in root.xpath(path):
            if title := squeeze("".join(element.itertext())):
                return title
    return None


def _metadata(root: etree._Element) -> Metadata:
    metadata: dict[str, Scalar | list[str]] = {}
    for element in root.iter("meta"):
        name = (element.get("name") or element.get("property") or "").lower()
        content = element.get("content") or ""
        if name in _META_FIELDS and content.strip():
            metadata.setdefault(_META_FIELDS[name], content)
    language = root.get("lang")
    if language:
        metadata["language"] = language
    return metadata
