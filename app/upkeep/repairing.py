"""What `app.versions.verifying` finds, mended; nothing is encoded that is kept anywhere.

The gaps of the database come first: chunks are cut again from the kept text, vectors taken from the index.
Then the index: documents that differ are indexed again, and where a file is damaged, the whole version is
made anew from the database beside and takes the place of the damaged one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from app.db import chunks, collections, documents, inventory, loaded_texts, nodes, vectors, versions
from app.db.dialects import in_batches
from app.db.tables import IndexVersionRow
from app.documents import intake
from app.errors import Conflict
from app.upkeep import switching
from app.versions import abandoned, building, retention, sparse, verifying
from app.versions import nodes as node_indexes
from app.versions.building import Say
from app.versions.following import Recipe, add_documents, commit_pending, pending, recipe_of
from app.versions.preparing import chunks_of, encode_texts
from app.versions.verifying import Problem, Report
from indexing import token_vectors
from indexing.errors import IndexVersionError
from indexing.snapshot import Snapshot
from indexing.types import Ids
from indexing.version import VersionWriter

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)

_ANEW = "the index is made anew from the database"
CURES: Mapping[str, str] = {
    "missing_text": "the documents are ingested again from their files",
    "stale_chunks": "the chunks are removed",
    "missing_chunks": "the chunks are cut again from the kept texts",
    "missing_vectors": "the vectors are taken from the index; those it lacks too are encoded",
    "vector": "the vectors on which database and index differ are encoded again",
    "orphan_vectors": "the vectors are removed",
    "stale_nodes": "the nodes are removed",
    "ids": "the documents that differ are indexed again",
    "manifest": _ANEW,
    "missing": _ANEW,
    "size": _ANEW,
    "checksum": _ANEW,
    "unreadable": _ANEW,
    "count": _ANEW,
    "columns": _ANEW,
    "postings": _ANEW,
    "outdated": _ANEW,
    "directory": _ANEW,
    "nodes": "the indexes of nodes are made anew from the database",
}
"""What is done about each kind of problem, in this order. A `file` has no cure but its upload."""
VECTORS_A_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was found, what was done about it (in a dry run: would be), and what is left.

    `version` is the one that was looked at; `replaced_by` the one made anew in its place.
    """

    version: str
    found: tuple[Problem, ...]
    cures: tuple[str, ...]
    left: tuple[Problem, ...]
    replaced_by: str | None = None


def repair(
    services: Services, version_id: str, *, dry_run: bool = False, progress: Say | None = None
) -> Repair:
    """Mends a version and what of the database belongs to it. Raises VersionNotFound, and Conflict
    (`index_version_busy`) while someone else builds or mends it."""
    report = verifying.verify(services, version_id)
    kinds = {problem.kind for problem in report.problems}
    cures = tuple(dict.fromkeys(cure for kind, cure in CURES.items() if kind in kinds))
    if dry_run or not kinds & CURES.keys():
        return Repair(version=version_id, found=report.problems, cures=cures, left=report.problems)
    replaced_by = _mended(services, report, kinds, progress)
    left = verifying.verify(services, replaced_by or version_id).problems
    extra = {"action": "index_repaired", "version": version_id, "kinds": sorted(kinds)}
    logger.info("index repaired: %s", "; ".join(cures), extra=extra | {"n_left": len(left)})
    return Repair(version=version_id, found=report.problems, cures=cures, left=left, replaced_by=replaced_by)


def mend_served(services: Services, progress: Say | None = None) -> list[str]:
    """Makes those served versions anew that cannot be used: damaged, or of another format; gives the new
    ones. What someone else mends is left to them."""
    with services.read() as session:
        owners = collections.list_all(session)
        served = [row for owner in owners if (row := versions.active(session, owner.id)) is not None]
    made = []
    for row in served:
        reason = _unusable(services, row)
        if reason is None:
            continue
        extra = {"action": "index_unusable", "version": row.id}
        logger.warning("index version cannot be used and is made anew: %s", reason, extra=extra)
        try:
            with _locked(services, row):
                new = _anew(services, row, progress)
        except Conflict:
            continue
        _remove(services, row.id)
        made.append(new.id)
    return made


def _mended(services: Services, report: Report, kinds: Collection[str], progress: Say | None) -> str | None:
    """Does what the problems ask for; gives the version that was made in place of this one, if any."""
    with services.read() as session:
        row = versions.get(session, report.version)
    recipe = recipe_of(services, row)
    anew = any(CURES.get(kind) == _ANEW for kind in kinds)
    with _locked(services, row):
        if "missing_text" in kinds:
            _ingest_again(services, row)
        if "stale_chunks" in kinds:
            _remove_stale(services, row)
        if "stale_nodes" in kinds:
            _remove_stale_nodes(services, row)
        if not anew and "nodes" in kinds:
            node_indexes.remove(services, row.id)
        if not anew and "ids" in kinds:
            lost, extra = _differing(services, row)
            _cut_again(services, row, recipe, extra)
            _index_again(services, row, recipe, {*lost, *extra})
        if "missing_chunks" in kinds:
            _cut_again(services, row, recipe, _with_holes(services, row))
        if "missing_vectors" in kinds:
            if not anew:
                _keep_indexed_vectors(services, row)
            building.encode_missing(services, row, recipe, progress or building.silent)
            if recipe.sparse is not None:
                if not anew:
                    sparse.keep_indexed(services, row, recipe.sparse, services.snapshots.get(row.id))
                sparse.encode_chunks(services, row, recipe.sparse, progress or building.silent)
        if "vector" in kinds:
            _settle_vectors(services, row, recipe)
        if not anew:
            commit_pending(services, row.id)
        new = _anew(services, row, progress) if anew else None
    if "orphan_vectors" in kinds:
        retention.forget_orphans(services, verifying.grace_seconds(services))
    if new is None:
        return None
    _remove(services, row.id)
    return new.id


def _anew(services: Services, row: IndexVersionRow, progress: Say | None) -> IndexVersionRow:
    """The version built again from the database; served, where the old one was."""
    new = building.rebuild(services, row, progress)
    with services.read() as session:
        is_served = collections.get(session, row.collection_id).active_version_id == row.id
    return switching.replace(services, new.id) if is_served else new


def _remove(services: Services, version_id: str) -> None:
    """Removes a damaged version that was made anew; where that fails, retention does it some day."""
    try:
        retention.delete(services, version_id)
    except Conflict:
        logger.warning("damaged version not removed", extra={"action": "index_kept", "version": version_id})


@contextmanager
def _locked(services: Services, row: IndexVersionRow) -> Iterator[None]:
    """The version is ours to mend for the block. Raises Conflict where another has it."""
    with ExitStack() as stack:
        lock = abandoned.building_lock(services.settings.indexes_dir, row.id, timeout_seconds=0)
        try:
            stack.enter_context(lock)
        except TimeoutError as error:
            raise Conflict(
                "The version is being worked on; try again in a moment.", code="index_version_busy"
            ) from error
        yield


def _unusable(services: Services, row: IndexVersionRow) -> str | None:
    """Why a version cannot be opened and extended; None where it can."""
    try:
        with Snapshot.open(services.settings.indexes_dir / row.id) as snapshot:
            pending(services, row, snapshot.manifest.change)
    except IndexVersionError as error:
        return str(error)
    return None


def _ingest_again(services: Services, row: IndexVersionRow) -> None:
    with services.read() as session:
        without = inventory.ready_without_text(session, row.collection_id)
    for document_id in without:
        with services.write() as session:
            number = documents.reopen(session, document_id)
            intake.enqueue(services, session, documents.get(session, document_id), number)


def _remove_stale(services: Services, row: IndexVersionRow) -> None:
    with services.write() as session:
        collections.lock(session, row.collection_id)
        touched = inventory.remove_stale_chunks(session, row.collection_id)
        if touched:
            collections.log_changes(session, row.collection_id, touched, "upsert")


def _remove_stale_nodes(services: Services, row: IndexVersionRow) -> None:
    with services.write() as session:
        collections.lock(session, row.collection_id)
        nodes.forget(session, nodes.dangling(session, row.collection_id))


def _differing(services: Services, row: IndexVersionRow) -> tuple[set[int], set[int]]:
    """The documents with chunks that only the database has, and those with chunks that only the index has."""
    snapshot = services.snapshots.get(row.id)
    indexed = snapshot.chunk_ids()
    with services.read() as session:
        expected = chunks.ids_of_collection(session, row.collection_id, row.chunker_fingerprint)
        lost = inventory.documents_of_chunks(session, np.setdiff1d(expected, indexed).tolist())
    return lost, _documents_of(snapshot, np.setdiff1d(indexed, expected))


def _documents_of(snapshot: Snapshot, chunk_ids: Ids) -> set[int]:
    found: set[int] = set()
    for segment, _, rows in snapshot.segments.located(chunk_ids):
        found.update(segment.document_ids_of(rows).tolist())
    return found


def _with_holes(services: Services, row: IndexVersionRow) -> set[int]:
    with services.read() as session:
        holes = {*inventory.with_missing_chunks(session, row.collection_id, row.chunker_fingerprint)}
        return holes | {*inventory.ready_without_chunks(session, row.collection_id, row.chunker_fingerprint)}


def _cut_again(
    services: Services, row: IndexVersionRow, recipe: Recipe, document_ids: Collection[int]
) -> None:
    """Writes the chunks of documents anew, under the ids they had; a document that is gone has none."""
    for document_id in sorted(document_ids):
        with services.write() as session:
            collections.lock(session, row.collection_id)
            kept = loaded_texts.newest_text(session, document_id)
            if kept is None or kept.revision != documents.get(session, document_id).revision:
                continue  # it is gone, or the ingestion that is under way cuts it
            chunks.delete(session, document_id, chunker=row.chunker_fingerprint)
            made = chunks_of(document_id, kept.loaded, kept.title, recipe.chunker)
            chunks.insert(session, kept.revision, row.chunker_fingerprint, made)
            collections.log_changes(session, row.collection_id, [document_id], "upsert")


def _index_again(
    services: Services, row: IndexVersionRow, recipe: Recipe, document_ids: Collection[int]
) -> None:
    """Indexes documents as the database has them, without a change that would ask for it."""
    touched = sorted(document_ids)
    with (
        VersionWriter(services.settings.indexes_dir / row.id) as writer,
        writer.commit(change=writer.manifest.change) as commit,
    ):
        commit.replace_documents(np.asarray(touched, dtype=np.int64))
        add_documents(services, commit, recipe, touched)


def _keep_indexed_vectors(services: Services, row: IndexVersionRow) -> None:
    """Puts vectors that only the index has back into the database: the very same float16 numbers."""
    snapshot = services.snapshots.get(row.id)
    known = set(snapshot.chunk_ids().tolist())
    of_recipe = (row.collection_id, row.chunker_fingerprint, row.encoder_fingerprint)
    after = -1
    while True:
        with services.read() as session:
            missing = inventory.without_vector(session, *of_recipe, after=after, limit=VECTORS_A_BATCH)
        if not missing:
            return
        after = missing[-1].chunk_id
        found = [item for item in missing if item.chunk_id in known]
        ids = np.asarray([item.chunk_id for item in found], dtype=np.int64)
        rows = [
            vectors.StoredVector(text_hash=item.text_hash, vector=vector.astype("<f2").tobytes())
            for item, vector in zip(found, verifying.indexed_vectors(snapshot, ids), strict=True)
        ]
        if codec := snapshot.manifest.spec.token_codec:
            rows = [
                replace(row, tokens=token_vectors.to_bytes(codec, codes), n_tokens=len(codes))
                for row, codes in zip(rows, snapshot.token_codes(ids), strict=True)
            ]
        with services.write() as session:
            vectors.save(session, row.encoder_fingerprint, row.dim, rows)


def _settle_vectors(services: Services, row: IndexVersionRow, recipe: Recipe) -> None:
    """Encodes anew where kept and indexed vector of a chunk differ; the new one is kept and indexed."""
    snapshot = services.snapshots.get(row.id)
    for batch in in_batches(snapshot.chunk_ids().tolist(), VECTORS_A_BATCH):
        with services.read() as session:
            entries = inventory.chunks_with_vectors(session, batch, row.encoder_fingerprint)
        ids = np.asarray([entry.chunk_id for entry in entries], dtype=np.int64)
        indexed = verifying.indexed_vectors(snapshot, ids).astype("<f2")
        differing = {
            entry.text_hash: entry
            for entry, vector in zip(entries, indexed, strict=True)
            if entry.vector is not None and entry.vector != vector.tobytes()
        }
        if not differing:
            continue
        with services.write() as session:
            inventory.forget_vectors_of(session, row.encoder_fingerprint, differing)
        texts = {text_hash: entry.text for text_hash, entry in differing.items()}
        encode_texts(services, recipe.encoder, texts, with_tokens=recipe.with_tokens)
        _index_again(services, row, recipe, {entry.document_id for entry in differing.values()})
