"""Whether the files of an index version are what its manifest says, and agree with each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from indexing.errors import IndexVersionError
from indexing.files import FileRecord, sha256_of
from indexing.manifest import NAME, Manifest, load_manifest
from indexing.postings import Postings
from indexing.snapshot import Snapshot
from indexing.types import Ids

ProblemKind = Literal["manifest", "missing", "size", "checksum", "unreadable", "count", "ids", "postings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong with a version; `path` is relative to its directory."""

    kind: ProblemKind
    path: str
    detail: str


def verify_version(directory: Path) -> list[Problem]:
    """Reads every byte of the version; an empty list means that it is sound."""
    try:
        manifest = load_manifest(directory)
    except IndexVersionError as exc:
        return [Problem(kind="manifest", path=NAME, detail=str(exc))]
    problems = [problem for record in manifest.files for problem in _check_file(directory, record)]
    return problems or list(_check_content(directory, manifest))


def _check_file(directory: Path, record: FileRecord) -> Iterator[Problem]:
    path = directory / record.name
    if not path.is_file():
        yield Problem(kind="missing", path=record.name, detail="There is no such file.")
    elif (size := path.stat().st_size) != record.size:
        yield Problem(kind="size", path=record.name, detail=f"{size} bytes instead of {record.size}.")
    elif (digest := sha256_of(path)) != record.sha256:
        detail = f"The sha256 is {digest} instead of {record.sha256}."
        yield Problem(kind="checksum", path=record.name, detail=detail)


def _check_content(directory: Path, manifest: Manifest) -> Iterator[Problem]:
    try:
        with Snapshot(directory, manifest) as snapshot:
            yield from _check_counts(snapshot)
            yield from _check_ids(snapshot.chunk_ids())
            yield from _check_postings(snapshot)
    except (IndexVersionError, ValueError, RuntimeError, OSError) as exc:
        yield Problem(kind="unreadable", path=".", detail=str(exc))


def _check_counts(snapshot: Snapshot) -> Iterator[Problem]:
    manifest = snapshot.manifest
    counted = {
        "chunks": (manifest.n_chunks, snapshot.segments.n_live),
        "documents": (manifest.n_documents, len(snapshot.documents())),
        "rows": (manifest.n_rows, sum(len(segment) for segment in snapshot.segments.segments)),
    }
    for what, (stated, found) in counted.items():
        if stated != found:
            yield Problem(kind="count", path=NAME, detail=f"{found} {what} instead of {stated}.")
    for record, segment in zip(manifest.segments, snapshot.segments.segments, strict=True):
        sizes = {len(segment), len(segment.document_ids), len(segment.terms), len(segment.vectors)}
        if sizes != {record.n_rows}:
            detail = f"The columns have {sorted(sizes)} rows instead of {record.n_rows}."
            yield Problem(kind="count", path=record.name, detail=detail)


def _check_ids(chunk_ids: Ids) -> Iterator[Problem]:
    if len(np.unique(chunk_ids)) != len(chunk_ids):
        yield Problem(kind="ids", path=".", detail="A chunk is live in two segments.")


def _check_postings(snapshot: Snapshot) -> Iterator[Problem]:
    for segment in snapshot.segments.segments:
        if not Postings.build(segment.terms).same_as(segment.postings):
            detail = "The postings are not those of the term table."
            yield Problem(kind="postings", path=segment.name, detail=detail)
