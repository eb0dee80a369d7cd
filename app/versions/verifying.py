"""What is wrong with an index version: its files, its chunks against the database's, its vectors against the
encoder, and what of the database a version needs.

`problems` looks at everything and may take minutes; `quick_problems` takes a second at most, for a version
that is about to be served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from typing import TYPE_CHECKING

import numpy as np

from app.db import chunks, collections, inventory, jobs, leftovers, nodes, revisions, versions
from app.db.chunks import ChunkText
from app.db.tables import IndexVersionRow
from app.ids import format_id
from app.versions import abandoned
from app.versions import nodes as node_indexes
from app.versions.following import pending
from indexing.encoding.factory import EncoderSpec
from indexing.errors import IndexVersionError
from indexing.manifest import load_manifest
from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from indexing.verification import verify_version

if TYPE_CHECKING:
    from app.services import Services

VECTORS_SAMPLED = 32
MIN_COSINE = 0.99
CHECKSUM_BYTES = 128 * 1024 * 1024
"""A quick look reads every byte of versions up to this size; of larger ones the sizes of the files."""
GRACE_SECONDS = 3600.0
"""Vectors younger than this may belong to chunks that are about to be written, while jobs are in work."""
SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong; `kind` is stable, `path` says where: a file of the version, or what it is about.

    Of the files: `manifest`, `missing`, `size`, `checksum`, `unreadable`, `count`, `outdated`, `directory`.
    Of database and index: `ids`, `vector`. Of the database: `stale_chunks`, `missing_chunks`,
    `missing_vectors`, `orphan_vectors`, `missing_text`, `stale_nodes`. Of the indexes of nodes: `nodes`. Of
    the store: `file`.
    """

    kind: str
    path: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found of one version; `behind` counts the changes it has yet to apply.

    The chunks of a version that is behind are not compared: they differ by right.
    """

    version: str
    problems: tuple[Problem, ...]
    behind: int

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(
    services: Services, version_id: str, *, n_vectors: int = VECTORS_SAMPLED, files: bool = False
) -> Report:
    """Everything about one version; with `files`, the original files of its collection too."""
    with services.read() as session:
        row = versions.get(session, version_id)
        last = collections.get(session, row.collection_id).change_number
    found = index_problems(services, row)
    if not found and n_vectors:
        found += list(_vector_problems(services, row, n_vectors))
    found += list(_node_problems(services, row))
    found += list(_row_problems(services, row))
    if files:
        found += list(_file_problems(services, row.collection_id))
    return Report(version=version_id, problems=tuple(found), behind=max(0, last - row.change_number))


def quick(services: Services, version_id: str) -> Report:
    """What `quick_problems` finds of one version."""
    with services.read() as session:
        row = versions.get(session, version_id)
        last = collections.get(session, row.collection_id).change_number
    found = tuple(quick_problems(services, row))
    return Report(version=version_id, problems=found, behind=max(0, last - row.change_number))


def quick_problems(services: Services, row: IndexVersionRow) -> list[Problem]:
    """What shows at a glance: files that are missing or cut, a count that is wrong, chunks that differ."""
    return index_problems(services, row, quick=True)


def index_problems(services: Services, row: IndexVersionRow, *, quick: bool = False) -> list[Problem]:
    """The files of a version against its manifest, and its chunks against the database's."""
    directory = services.settings.indexes_dir / row.id
    if not directory.is_dir():
        return [Problem(kind="directory", path=row.id, detail="The directory of the version is missing.")]
    try:
        with Snapshot.open(directory) as snapshot:
            large = snapshot.manifest.size_bytes > CHECKSUM_BYTES
            pending(services, row, snapshot.manifest.change)
            found = _id_problems(services, row, snapshot)
    except IndexVersionError as error:
        kind = "outdated" if error.code == "index_outdated" else "unreadable"
        return _of_files(services, row) or [Problem(kind=kind, path=".", detail=str(error))]
    return found if quick and large else _of_files(services, row) or found


def unnamed_directories(services: Services) -> list[Problem]:
    """Directories of versions that no row names: what a kill left between two steps."""
    return [
        Problem(kind="directory", path=path.name, detail="No index version has this directory.")
        for path in abandoned.unnamed(services)
    ]


def _of_files(services: Services, row: IndexVersionRow) -> list[Problem]:
    return [
        Problem(kind=problem.kind, path=problem.path, detail=problem.detail)
        for problem in verify_version(services.settings.indexes_dir / row.id)
    ]


def _id_problems(services: Services, row: IndexVersionRow, snapshot: Snapshot) -> list[Problem]:
    """Chunks that only the index or only the database has; none while changes are on their way."""
    indexed = snapshot.chunk_ids()
    with services.read() as session:
        if collections.get(session, row.collection_id).change_number != snapshot.manifest.change:
            return []
        signature = inventory.chunk_signature(session, row.collection_id, row.chunker_fingerprint)
        if signature == (len(indexed), int((indexed % inventory.SIGNATURE_PRIME).sum())):
            return []
        expected = chunks.ids_of_collection(session, row.collection_id, row.chunker_fingerprint)
    lost, extra = np.setdiff1d(expected, indexed), np.setdiff1d(indexed, expected)
    found = []
    if len(lost):
        detail = f"{len(lost)} chunks of the database are not in the index{_names(lost)}."
        found.append(Problem(kind="ids", path=row.id, detail=detail))
    if len(extra):
        detail = f"{len(extra)} chunks of the index are not in the database{_names(extra)}."
        found.append(Problem(kind="ids", path=row.id, detail=detail))
    return found


def _node_problems(services: Services, row: IndexVersionRow) -> Iterator[Problem]:
    """The indexes of nodes, and nodes that rest on what has gone.

    A version that is not served does not follow nodes that come and go before it is switched to.
    """
    with services.read() as session:
        stale = nodes.dangling(session, row.collection_id)
        is_served = collections.get(session, row.collection_id).active_version_id == row.id
    if stale:
        detail = f"{len(stale)} nodes rest on chunks or nodes that have gone{_names(sorted(stale))}."
        yield Problem(kind="stale_nodes", path="nodes", detail=detail)
    for path, detail in node_indexes.problems(services, row, ids=is_served):
        yield Problem(kind="nodes", path=path, detail=detail)


def _vector_problems(services: Services, row: IndexVersionRow, n_vectors: int) -> Iterator[Problem]:
    """Kept and indexed vectors of some chunks, chosen by chance, against what the encoder says now."""
    encoder = services.encoders.get(EncoderSpec(**row.encoder_spec))
    if encoder.fingerprint != row.encoder_fingerprint:
        detail = (
            f"The version has encoder {row.encoder_fingerprint}; that of its name is {encoder.fingerprint}."
        )
        yield Problem(kind="vector", path=row.encoder_name, detail=detail)
        return
    for name, wrong in wrong_vectors(services, row, n_vectors).items():
        if len(wrong):
            detail = f"{len(wrong)} of {n_vectors} vectors are not what the encoder makes{_names(wrong)}."
            yield Problem(kind="vector", path=name, detail=detail)


def wrong_vectors(services: Services, row: IndexVersionRow, n_vectors: int) -> dict[str, Ids]:
    """The chunks of a sample whose vector, `kept` in the database or in the `index`, the encoder disowns."""
    snapshot = services.snapshots.get(row.id)
    ids = snapshot.chunk_ids()
    chosen = np.random.default_rng().choice(ids, min(n_vectors, len(ids)), replace=False)
    with services.read() as session:
        entries = inventory.chunks_with_vectors(session, chosen.tolist(), row.encoder_fingerprint)
    if not entries:
        return {}
    encoder = services.encoders.get(EncoderSpec(**row.encoder_spec))
    made = encoder.encode_documents([entry.text for entry in entries]).vectors
    entry_ids = np.asarray([entry.chunk_id for entry in entries], dtype=np.int64)
    kept = np.asarray([entry.vector is not None for entry in entries])
    kept_wrong = kept & (_cosines(_kept(entries, row.dim), made) < MIN_COSINE)
    indexed_wrong = _cosines(indexed_vectors(snapshot, entry_ids), made) < MIN_COSINE
    return {"kept": entry_ids[kept_wrong], "index": entry_ids[indexed_wrong]}


def indexed_vectors(snapshot: Snapshot, chunk_ids: Ids) -> Floats:
    """The vectors that an index has of chunks, shape (n_chunks, dim). Raises KeyError if it lacks one."""
    vectors = np.empty((len(chunk_ids), snapshot.segments.dim), dtype=np.float32)
    for segment, positions, rows in snapshot.segments.located(chunk_ids):
        vectors[positions] = segment.vectors.halves[rows]
    return vectors


def _kept(entries: Sequence[ChunkText], dim: int) -> Floats:
    """The kept vectors, shape (n_chunks, dim); zeros where there is none, or one of another length."""
    vectors = np.zeros((len(entries), dim), dtype=np.float32)
    for position, entry in enumerate(entries):
        if entry.vector is not None and len(entry.vector) == 2 * dim:
            vectors[position] = np.frombuffer(entry.vector, dtype="<f2")
    return vectors


def _cosines(some: Floats, others: Floats) -> Floats:
    """The cosine of each pair of rows; vectors of length 0, or with what is no number, get -1."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
        cosines = (some * others).sum(axis=1) / lengths
    return np.where(np.isfinite(cosines), cosines, -1.0).astype(np.float32)


def _row_problems(services: Services, row: IndexVersionRow) -> Iterator[Problem]:
    """What of the database a version needs, or no one needs."""
    owner, chunker = row.collection_id, row.chunker_fingerprint
    with services.read() as session:
        if stale := inventory.stale_chunks(session, owner):
            yield Problem(
                kind="stale_chunks",
                path="chunks",
                detail=f"{sum(stale.values())} chunks are of revisions that are no longer served.",
            )
        if gone := inventory.ready_without_text(session, owner):
            detail = f"{len(gone)} documents are ready and have no text{_names(gone)}."
            yield Problem(kind="missing_text", path="revisions", detail=detail)
        if orphans := leftovers.orphan_vectors(session, grace_seconds=grace_seconds(services)):
            more = "or more " if len(orphans) == leftovers.BITE else ""
            detail = f"{len(orphans)} {more}kept vectors are of texts that no chunk has."
            yield Problem(kind="orphan_vectors", path="vectors", detail=detail)
        if collections.get(session, owner).change_number != row.change_number:
            return  # what a version that is behind has to make yet is not missing
        holes = {*inventory.with_missing_chunks(session, owner, chunker)}
        holes |= {*inventory.ready_without_chunks(session, owner, chunker)}
        if holes:
            detail = f"Chunks of {len(holes)} documents are missing{_names(sorted(holes))}."
            yield Problem(kind="missing_chunks", path="chunks", detail=detail)
        for fingerprint in _encoders_of(services, row):
            if n := inventory.n_without_vector(session, owner, chunker, fingerprint):
                detail = f"{n} chunks have no kept vector of the encoder {fingerprint}."
                yield Problem(kind="missing_vectors", path="vectors", detail=detail)


def _encoders_of(services: Services, row: IndexVersionRow) -> tuple[str, ...]:
    """The fingerprints of the encoder of a version and, where it has one, of its sparse encoder."""
    try:
        sparse = load_manifest(services.settings.indexes_dir / row.id).spec.sparse_fingerprint
    except IndexVersionError:
        sparse = None  # another check says so
    return (row.encoder_fingerprint,) if sparse is None else (row.encoder_fingerprint, sparse)


def grace_seconds(services: Services) -> float:
    """How old a vector without a chunk must be to be an orphan: no age at all when no job is in work."""
    with services.read() as session:
        in_work = any(status == "doing" for _, status in jobs.counts(session))
    return GRACE_SECONDS if in_work else 0.0


def _file_problems(services: Services, collection_id: int) -> Iterator[Problem]:
    with services.read() as session:
        hashes = sorted(set(revisions.content_hashes(session, collection_id=collection_id)))
    for content_hash in hashes:
        path = services.store.path(content_hash)
        try:
            with path.open("rb") as file:
                found = file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield Problem(
                kind="file", path=content_hash, detail=f"The file cannot be read: {error.strerror}."
            )
            continue
        if found != content_hash:
            yield Problem(kind="file", path=content_hash, detail=f"The bytes have the hash {found}.")


def _names(ids: Ids | Sequence[int]) -> str:
    """The first ids, as a list in parentheses would show them."""
    shown = ", ".join(format_id(int(number)) for number in ids[:SHOWN])
    return f" ({shown}{', …' if len(ids) > SHOWN else ''})"
