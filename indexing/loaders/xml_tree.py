"""XML parsing that expands no entities, opens nothing, and refuses what is nested too deeply."""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from indexing.errors import LoadError
from indexing.loaders.canonical import squeeze


def parse_xml(data: bytes) -> etree._Element:
    """The root element; corrupt_file where it is not well formed, too_large where it breaks libxml2's limits.

    Depth is at most 256 elements (libxml2's limit without `huge_tree`), so walking it by recursion is safe.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        dtd_validation=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as exc:
        message = str(exc)
        if "huge" in message.lower():
            raise LoadError("too_large", f"the XML is over the parser's limits: {message}") from exc
        raise LoadError("corrupt_file", f"not well-formed XML: {message}") from exc
    if root is None:
        raise LoadError("corrupt_file", "the XML has no root element")
    return root


def local_name(element: etree._Element) -> str:
    """The tag without its namespace; an empty string for entities and other non-elements."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def children(element: etree._Element, *names: str) -> Iterator[etree._Element]:
    """The direct children with one of these local names, all where none is given."""
    for child in element:
        name = local_name(child)
        if name and (not names or name in names):
            yield child


def first(element: etree._Element, *path: str) -> etree._Element | None:
    """The first descendant along a path of local names."""
    found: etree._Element | None = element
    for name in path:
        if found is None:
            return None
        found = next(children(found, name), None)
    return found


def descendants(element: etree._Element, *names: str) -> Iterator[etree._Element]:
    """All descendants with one of these local names, in document order."""
    for descendant in element.iterdescendants():
        if local_name(descendant) in names:
            yield descendant


def attribute(element: etree._Element, name: str) -> str | None:
    """The attribute with this local name, in any namespace."""
    value = element.get(name)
    if value is not None:
        return str(value)
    for key, candidate in element.attrib.items():
        if str(key).rpartition("}")[2] == name:
            return str(candidate)
    return None


def all_text(element: etree._Element | None) -> str:
    """The text of an element and all below it, on one line."""
    return "" if element is None else squeeze("".join(element.itertext()))
