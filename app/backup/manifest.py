"""What a backup says about itself: `footnote.json` at its beginning, `manifest.json` near its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from app.backup.errors import ArchiveDamaged, ArchiveNewer, ArchiveUnknown

FORMAT = 1
HEADER = "footnote.json"
MANIFEST = "manifest.json"
MAX_BYTES = 64 * 1024 * 1024

LEFT_OUT: Mapping[str, str] = {
    "idempotency_keys": "answers kept for a day for requests that are sent again; a document that is sent "
    "again is recognised by its source and its hash",
}
"""The tables that no backup has, each with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first member: enough to know what follows. `schema` is the revision of the tables."""

    id: str
    format: int
    footnote: str
    schema: str
    database: str
    created_at: str

    def to_bytes(self) -> bytes:
        return _to_bytes({"kind": "footnote-backup"} | asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Raises ArchiveUnknown, ArchiveNewer."""
        try:
            values = json.loads(data)
            if not isinstance(values, dict) or values.pop("kind", None) != "footnote-backup":
                raise ArchiveUnknown(f"{HEADER} is not that of a backup")
            if isinstance(values.get("format"), int) and values["format"] > FORMAT:
                raise ArchiveNewer(
                    f"the backup has format {values['format']}, made by Footnote {values.get('footnote')}; "
                    f"this program reads format {FORMAT}"
                )
            header = cls(**values)
            datetime.fromisoformat(header.created_at)
        except (ValueError, TypeError, RecursionError) as error:
            raise ArchiveUnknown(f"{HEADER} cannot be read: {error}") from error
        if header.format != FORMAT or not all(isinstance(value, str) for value in (header.id, header.schema)):
            raise ArchiveUnknown(f"{HEADER} is not that of a backup")
        return header


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """An index version that was served: what it takes to make it anew."""

    collection: str
    version: str
    encoder: str
    encoder_fingerprint: str
    encoder_spec: Mapping[str, Any]
    chunker_fingerprint: str
    chunker_spec: Mapping[str, Any]
    dim: int
    n_documents: int
    n_chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the backup holds. `missing_files` are named by rows, but were not whole in the store."""

    header: Header
    tables: Mapping[str, int]
    left_out: Mapping[str, str]
    n_files: int
    file_bytes: int
    missing_files: tuple[str, ...]
    indexes: tuple[IndexSpec, ...]

    @property
    def n_rows(self) -> int:
        return sum(self.tables.values())

    def to_bytes(self) -> bytes:
        return _to_bytes(asdict(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Raises ArchiveDamaged."""
        try:
            values = json.loads(data)
            values["header"] = Header(**values["header"])
            values["indexes"] = tuple(IndexSpec(**item) for item in values["indexes"])
            values["missing_files"] = tuple(values["missing_files"])
            manifest = cls(**values)
            if not all(type(n_rows) is int for n_rows in manifest.tables.values()):
                raise ValueError("a count of rows is no integer")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ArchiveDamaged(f"{MANIFEST} cannot be read: {error!r}") from error
        return manifest


def _to_bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"
