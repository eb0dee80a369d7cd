"""What the parts of an Office Open XML package have in common: relationships and properties."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from urllib.parse import unquote

from indexing.loaders.archive import Archive
from indexing.loaders.xml_tree import all_text, attribute, children
from indexing.types import Scalar

_FIELDS = {
    "creator": "author",
    "subject": "subject",
    "keywords": "keywords",
    "created": "created",
    "modified": "modified",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Relationship:
    """A link from one part of a package to another; `kind` is the last word of its type."""

    kind: str
    target: str


def relationships(archive: Archive, part: str) -> dict[str, Relationship]:
    """The relationships of a part by id, targets as member names, without those that leave the package."""
    folder, _, name = part.rpartition("/")
    root = archive.optional_xml(f"{folder}/_rels/{name}.rels".lstrip("/"))
    found: dict[str, Relationship] = {}
    for element in [] if root is None else children(root, "Relationship"):
        if attribute(element, "TargetMode") == "External":
            continue
        target = unquote(attribute(element, "Target") or "")
        path = (
            target.lstrip("/")
            if target.startswith("/")
            else posixpath.normpath(posixpath.join(folder, target))
        )
        kind = (attribute(element, "Type") or "").rpartition("/")[2]
        found[attribute(element, "Id") or ""] = Relationship(kind=kind, target=path)
    return found


def main_part(archive: Archive, usual: str) -> str:
    """The name of the part that holds the document."""
    for link in relationships(archive, "").values():
        if link.kind == "officeDocument" and link.target in archive:
            return link.target
    return usual


def core_properties(archive: Archive) -> tuple[str | None, dict[str, Scalar | list[str]]]:
    """The title and the other properties a package states about itself."""
    root = archive.optional_xml("docProps/core.xml")
    if root is None:
        return None, {}
    fields = {element.tag.rpartition("}")[2]: all_text(element) for element in children(root)}
    metadata: dict[str, Scalar | list[str]] = {
        name: fields[field] for field, name in _FIELDS.items() if fields.get(field)
    }
    return fields.get("title") or None, metadata
