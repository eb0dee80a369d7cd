"""EPUB: the chapters of the spine, in order."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from lxml import etree

from indexing.errors import LoadError
from indexing.loaders.archive import Archive
from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.html import decode_html, write_html
from indexing.loaders.source import SourceFile
from indexing.loaders.xml_tree import all_text, attribute, children, descendants, first
from indexing.types import LoadedText, Scalar

_FONT_OBFUSCATION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_FIELDS = ("creator", "publisher", "date", "language", "subject", "rights")


def load_epub(source: SourceFile) -> LoadedText:
    """A book; encrypted_file where its chapters are under a digital lock."""
    with Archive(source) as archive:
        _refuse_locked(archive)
        package_path = _package_path(archive)
        package = archive.xml(package_path)
        builder = TextBuilder(source.limits.text_chars)
        for name in _chapters(package, package_path):
            if name in archive:
                write_html(builder, decode_html(archive.read(name)))
        return builder.finish(title=_title(package), metadata=_metadata(package))


def _refuse_locked(archive: Archive) -> None:
    encryption = archive.optional_xml("META-INF/encryption.xml")
    if encryption is None:
        return
    for method in descendants(encryption, "EncryptionMethod"):
        if attribute(method, "Algorithm") not in _FONT_OBFUSCATION:
            raise LoadError("encrypted_file", "the book is under a digital lock")


def _package_path(archive: Archive) -> str:
    container = archive.xml("META-INF/container.xml")
    for rootfile in descendants(container, "rootfile"):
        if path := attribute(rootfile, "full-path"):
            return path
    raise LoadError("corrupt_file", "the book names no package")


def _chapters(package: etree._Element, package_path: str) -> list[str]:
    folder = posixpath.dirname(package_path)
    hrefs = {
        attribute(item, "id"): unquote(attribute(item, "href") or "").partition("#")[0]
        for item in descendants(package, "item")
        if "html" in (attribute(item, "media-type") or "")
        and "nav" not in (attribute(item, "properties") or "").split()
    }
    spine = first(package, "spine")
    references = [] if spine is None else [attribute(item, "idref") for item in children(spine, "itemref")]
    ordered = [hrefs[reference] for reference in references if reference in hrefs] or list(hrefs.values())
    return [posixpath.normpath(posixpath.join(folder, href)) for href in dict.fromkeys(ordered)]


def _title(package: etree._Element) -> str | None:
    return next((all_text(element) for element in descendants(package, "title")), None)


def _metadata(package: etree._Element) -> dict[str, Scalar | list[str]]:
    metadata: dict[str, Scalar | list[str]] = {}
    for name in _FIELDS:
        values = [squeeze(all_text(element)) for element in descendants(package, name)]
        if any(values):
            metadata[name] = ", ".join(filter(None, values))
    return metadata
