"""The manifest of an index version: which files it consists of, and what they were made from and with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from indexing.errors import IndexDamaged, IndexMissing
from indexing.files import FileRecord, replace_file
from indexing.types import Scalar

FORMAT = 2
NAME = "manifest.json"

SegmentKind = Literal["flat", "rabitq"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSpec:
    """What an index version is made with; changing any of it takes a new version."""

    version: str
    encoder_name: str
    encoder_fingerprint: str
    dim: int
    chunker_fingerprint: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    """`token_codec` names what token vectors are coded with, `token_bytes` is the size of a code; both are
    there or neither, and a version without them has no token vectors. `sparse_fingerprint` names the encoder
    of sparse vectors in the same way, and `sparse_model` and what begins so say how to load it."""

    @property
    def token_codec(self) -> str | None:
        name = self.settings.get("token_codec")
        return None if name is None else str(name)

    @property
    def token_bytes(self) -> int:
        return int(self.settings.get("token_bytes", 0))

    @property
    def sparse_fingerprint(self) -> str | None:
        fingerprint = self.settings.get("sparse_fingerprint")
        return None if fingerprint is None else str(fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRecord:
    """An immutable directory of rows, and which of them are dead by now.

    `n_rows` counts the dead ones too, `n_tokens` only the terms of the live ones. `dead` is a file with a bit
    for every row.
    """

    name: str
    n_rows: int
    n_tokens: int
    kind: SegmentKind
    files: tuple[FileRecord, ...]
    n_dead: int = 0
    dead: FileRecord | None = None

    @property
    def n_live(self) -> int:
        return self.n_rows - self.n_dead


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """A file or directory that commit number `commit` made superfluous; kept a while for slow readers."""

    name: str
    commit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`change` is the number of the last applied change, `commit` counts the commits of this version."""

    spec: VersionSpec
    created_at: str
    commit: int = 0
    change: int = 0
    n_documents: int = 0
    n_chunks: int = 0
    segments: tuple[SegmentRecord, ...] = ()
    retired: tuple[Retired, ...] = ()
    next_segment: int = 1
    format: int = FORMAT

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Every file a reader needs."""
        records = [record for segment in self.segments for record in segment.files]
        return (*records, *(segment.dead for segment in self.segments if segment.dead))

    @property
    def names(self) -> frozenset[str]:
        """The entries of the version directory that a reader needs."""
        return frozenset(record.name.partition("/")[0] for record in self.files)

    @property
    def n_rows(self) -> int:
        """Rows on disk, deleted ones included; `n_chunks` of them are found."""
        return sum(segment.n_rows for segment in self.segments)

    @property
    def size_bytes(self) -> int:
        return sum(record.size for record in self.files)


def save_manifest(directory: Path, manifest: Manifest) -> None:
    """Makes the manifest the version's state, in one step."""
    fields = asdict(manifest)
    text = json.dumps({**fields, "sha256": _digest(fields)}, indent=1, sort_keys=True)
    replace_file(directory / NAME, text.encode() + b"\n")


def load_manifest(directory: Path) -> Manifest:
    """Raises IndexMissing if there is none, IndexDamaged if it cannot be read."""
    try:
        data = (directory / NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise IndexMissing(f"There is no index version in {directory}.") from exc
    try:
        fields = json.loads(data)
        known = fields["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise IndexDamaged(f"The manifest in {directory} cannot be read: {exc!r}.") from exc
    if known != FORMAT:
        raise IndexDamaged(
            f"The index version in {directory} has format {known}; this program reads format {FORMAT}. "
            "Make it anew with `footnote index repair`."
        )
    if fields.pop("sha256", None) != _digest(fields):
        raise IndexDamaged(f"The manifest in {directory} is not as it was written.")
    try:
        return _parse(fields)
    except (KeyError, TypeError, AttributeError) as exc:
        raise IndexDamaged(f"The manifest in {directory} is incomplete: {exc!r}.") from exc


def _parse(fields: dict[str, Any]) -> Manifest:
    return Manifest(
        **{
            **fields,
            "spec": VersionSpec(**fields["spec"]),
            "segments": tuple(_parse_segment(segment) for segment in fields["segments"]),
            "retired": tuple(Retired(**retired) for retired in fields["retired"]),
        }
    )


def _parse_segment(fields: dict[str, Any]) -> SegmentRecord:
    files = tuple(FileRecord(**file) for file in fields["files"])
    return SegmentRecord(
        **{**fields, "files": files, "dead": fields["dead"] and FileRecord(**fields["dead"])}
    )


def _digest(fields: Mapping[str, Any]) -> str:
    """The sha256 of everything else that a manifest says."""
    # Without indentation, which takes the encoder ten times as long: a commit comes here several times.
    return sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
