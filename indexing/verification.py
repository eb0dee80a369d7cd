"""Whether the files of an index version are what its manifest says, and agree with each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from indexing.bm25 import length_code
from indexing.errors import IndexVersionError
from indexing.files import FileRecord, sha256_of
from indexing.manifest import NAME, Manifest, load_manifest
from indexing.postings import Postings
from indexing.segments import Segment
from indexing.snapshot import Snapshot
from indexing.terms import TermTable
from indexing.vectors import Halves

ProblemKind = Literal[
    "manifest", "missing", "size", "checksum", "unreadable", "count", "ids", "columns", "postings"
]
Numbers = NDArray[np.integer[Any]]

_ENTRIES_A_SLICE = 1_000_000
_ROWS_A_SLICE = 16_384


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
            for segment in snapshot.segments.segments:
                yield from _check_segment(segment)
            yield from _check_counts(snapshot)
    except (IndexVersionError, ValueError, TypeError, LookupError, RuntimeError, OSError) as exc:
        yield Problem(kind="unreadable", path=".", detail=str(exc))


def _check_counts(snapshot: Snapshot) -> Iterator[Problem]:
    manifest = snapshot.manifest
    chunk_ids = snapshot.chunk_ids()
    counted = {
        "chunks": (manifest.n_chunks, len(chunk_ids)),
        "documents": (manifest.n_documents, len(snapshot.documents())),
    }
    for what, (stated, found) in counted.items():
        if stated != found:
            yield Problem(kind="count", path=NAME, detail=f"{found} {what} instead of {stated}.")
    if not _rise(chunk_ids):
        yield Problem(kind="ids", path=".", detail="A chunk is live in two segments.")


def _check_segment(segment: Segment) -> Iterator[Problem]:
    """What no search would notice: columns that do not go together."""
    files, terms = segment.files, segment.terms
    places = np.repeat(np.arange(len(files.documents)), np.diff(files.starts))
    sound = {
        "the chunk ids do not rise": _rise(segment.chunk_ids),
        "the document ids do not rise": _rise(files.documents),
        "the order by document is wrong": np.array_equal(files.document_of[files.by_document], places)
        and _rise((places << 32) | files.by_document),
        "the vocabulary does not rise": _rise(terms.vocabulary),
        "the term table has another number of entries": terms.starts[0] == 0
        and bool((np.diff(terms.starts) >= 0).all())
        and {len(terms.ordinals), len(terms.counts)} == {int(terms.starts[-1])},
        "the tokens of a chunk end before they begin": segment.tokens is None
        or bool((np.diff(segment.tokens.starts) >= 0).all()),
        "the sparse vectors are not in order": segment.sparse is None or segment.sparse.is_sound(),
        "a vector has an element that is no number": _finite(segment.vectors.halves),
        "the codes are not those of as many rows": not segment.vectors.coded
        or len(segment.vectors.estimate(segment.vectors.halves[0].astype(np.float32), 1)[1]) == 1,
    }
    for what, right in sound.items():
        if not right:
            yield Problem(kind="columns", path=segment.name, detail=f"Something is wrong: {what}.")
    n_tokens = int(terms.lengths[segment.live_rows].sum(dtype=np.int64))
    if n_tokens != segment.n_tokens:
        detail = f"{n_tokens} tokens of {segment.name} instead of {segment.n_tokens}."
        yield Problem(kind="count", path=NAME, detail=detail)
    if not _turned_round(terms, segment.postings):
        detail = "The postings are not those of the term table."
        yield Problem(kind="postings", path=segment.name, detail=detail)


def _turned_round(terms: TermTable, postings: Postings) -> bool:
    """Whether both have the same entries: by a sum of their hashes, which does not need them sorted."""
    if len(postings.starts) != len(terms.vocabulary) + 1 or len(postings.rows) != len(terms.ordinals):
        return False
    codes = length_code(terms.lengths)
    difference = 0
    for start in range(0, len(terms.ordinals), _ENTRIES_A_SLICE):
        part = slice(start, start + _ENTRIES_A_SLICE)
        places = np.arange(start, start + len(terms.ordinals[part]))
        rows = np.searchsorted(terms.starts, places, side="right") - 1
        impacts = (terms.counts[part].astype(np.uint16) << 8) | codes[rows]
        difference += _hash_sum(terms.ordinals[part], rows, impacts)
        ordinals = np.searchsorted(postings.starts, places, side="right") - 1
        difference -= _hash_sum(ordinals, postings.rows[part], postings.impacts[part])
        within = ordinals[1:] == ordinals[:-1]
        if not (postings.rows[part][1:] > postings.rows[part][:-1])[within].all():
            return False
    return difference % 2**64 == 0


def _hash_sum(ordinals: Numbers, rows: Numbers, impacts: Numbers) -> int:
    """The sum of a hash of every entry, modulo 2**64; the hash is the finalizer of splitmix64."""
    keys = (ordinals.astype(np.uint64) << 40) | (rows.astype(np.uint64) << 16) | impacts.astype(np.uint64)
    keys = (keys ^ (keys >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> 27)) * np.uint64(0x94D049BB133111EB)
    return int((keys ^ (keys >> 31)).sum())


def _rise(numbers: Numbers) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())


def _finite(halves: Halves) -> bool:
    return all(
        bool(np.isfinite(halves[start : start + _ROWS_A_SLICE]).all())
        for start in range(0, len(halves), _ROWS_A_SLICE)
    )
