"""Deleting with a receipt: what was removed where, and searches that show that it cannot be found.

    the database and the store   in one transaction, by `intake.delete_all`
    every index version          in a commit of its own, which overtakes what else waits to be indexed
    the probe                    searches with the documents' own words and vectors, before and after

What cannot be done in time is named in the receipt as pending; the worker does it. After that the bytes lie
dead in segments, free pages and a write-ahead log until they are written over. `app.purging` does that now.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.db import (
    collections,
    deletions,
    documents,
    filters,
    idempotency,
    nodes,
    removal,
    revisions,
    vectors,
    versions,
)
from app.db.dialects import in_batches
from app.db.errors import DocumentNotFound
from app.documents import intake, probing
from app.documents.intake import FilesGone
from app.documents.probing import Found, Search
from app.documents.receipts import IndexRemoval, Probe, Receipt, receipt_of
from app.errors import InvalidRequest
from app.versions import nodes as node_indexes
from indexing.errors import IndexingError
from indexing.files import checkpoint
from indexing.version import VersionWriter

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)

WAIT_SECONDS = 5.0
"""How long a deletion waits for an index version that another process writes to."""

DOCUMENTS_A_RECEIPT = 200

Removed = Sequence[tuple[int, Sequence[int]]]
"""Deletions: the number of the last change, and the documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which documents of a collection are meant: by id, by filter, by a glob over sources; all must hold."""

    collection: str
    document_ids: tuple[int, ...] | None = None
    where: Mapping[str, Any] | None = None
    source: str | None = None


def delete(services: Services, document_id: int) -> Receipt:
    """Deletes a document everywhere. Raises DocumentNotFound."""
    with services.read() as session:
        owner = documents.get(session, document_id).collection_id
    return delete_some(services, owner, [document_id])


def delete_many(services: Services, collection_id: int, document_ids: Iterable[int]) -> Iterator[Receipt]:
    """Deletes documents in groups, each with a receipt; what is gone already is left out."""
    for batch in in_batches(document_ids, DOCUMENTS_A_RECEIPT):
        try:
            yield delete_some(services, collection_id, batch)
        except DocumentNotFound:
            continue


def delete_some(services: Services, collection_id: int, document_ids: Sequence[int]) -> Receipt:
    """Deletes documents of a collection with one receipt. Raises DocumentNotFound where none is there."""
    searches, before, note = _probed(services, collection_id, document_ids)
    notes = [note] if note else []
    taken = intake.delete_all(services, collection_id, document_ids)
    removals = remove_from_indexes(services, collection_id, [(taken.change_number, taken.document_ids)])
    checkpoint("deletion-indexed")
    try:
        after = probing.found(services, collection_id, searches)
    except IndexingError as error:
        after, notes = (), [f"the index could not be probed: {error}"]
    if taken.n_in_work:
        notes.append("a worker has it in hand: what it encodes after this is collected within the hour")
    logger.info(
        "documents deleted",
        extra={"action": "documents_deleted", "deletion": taken.deletion_id, "n": len(taken.document_ids)},
    )
    details = {
        "rows": taken.rows,
        "files": _files(taken.files),
        "indexes": [asdict(item) for item in removals],
        "probe": [asdict(item) for item in _compared(before, after)],
        "notes": notes,
    }
    with services.write() as session:
        return receipt_of(deletions.note(session, taken.deletion_id, details))


def delete_collection(services: Services, name: str) -> Receipt:
    """Deletes a collection with its documents, their files and its indexes.

    Raises CollectionNotFound, and CollectionInUse for the default collection.
    """
    with services.write() as session:
        row = collections.get_by_name(session, name)
        collections.lock(session, row.id)
        hashes = revisions.content_hashes(session, collection_id=row.id)
        version_ids = [version.id for version in versions.list_all(session, collection_id=row.id)]
        counts = {
            **removal.rows_of_collection(session, row.id),
            "nodes": nodes.count(session, row.id),
            "vectors": vectors.forget_collection(session, row.id),
            "redacted_jobs": deletions.redact_jobs_of_collection(session, row.id),
            "redacted_answers": idempotency.redact(session, documents.ids_of_collection(session, row.id)),
        }
        kept = deletions.record(
            session,
            "collection",
            collection_id=row.id,
            collection=name,
            document_ids=(),
            change_number=row.change_number,
            receipt={"rows": counts},
        )
        collections.delete(session, row.id)
    checkpoint("collection-deleted")
    files = intake.remove_files(services, hashes, hashes)
    removals = [_remove_version(services, version_id, row.change_number) for version_id in version_ids]
    details = {**kept.receipt, "files": _files(files), "indexes": [asdict(item) for item in removals]}
    with services.write() as session:
        return receipt_of(deletions.note(session, kept.id, details))


def chosen(services: Services, choice: Choice) -> list[tuple[int, str]]:
    """(id, source) of the documents that are meant, by source.

    Raises CollectionNotFound, FilterError, and InvalidRequest where the choice leaves everything in.
    """
    if not (choice.document_ids or choice.where or choice.source):
        raise InvalidRequest("Say which documents: by id, by a filter, or by a pattern for their sources.")
    with services.read() as session:
        collection = collections.get_by_name(session, choice.collection)
        allowed = (
            set(filters.allowed_documents(session, collection.id, choice.where).tolist())
            if choice.where
            else None
        )
        wanted = None if choice.document_ids is None else set(choice.document_ids)
        found = [
            (document_id, source)
            for document_id, source in documents.sources_of(session, collection.id)
            if (wanted is None or document_id in wanted)
            and (allowed is None or document_id in allowed)
            and (choice.source is None or fnmatchcase(source, choice.source))
        ]
    return sorted(found, key=lambda item: item[1])


def known_collection(services: Services, name: str) -> int:
    """The id of a collection that is there, or that a receipt is of. Raises CollectionNotFound."""
    with services.read() as session:
        collection_id = collections.id_of(name)
        if not deletions.list_page(session, collection_id=collection_id, limit=1).items:
            collection_id = collections.get_by_name(session, name).id
    return collection_id


def remove_from_indexes(services: Services, collection_id: int, removed: Removed) -> list[IndexRemoval]:
    """Takes deleted documents out of every version that can be served, now or after a rollback."""
    with services.read() as session:
        ready = versions.list_all(session, collection_id=collection_id, status="ready")
    return [_remove_from(services, version.id, removed) for version in ready]


def _remove_from(services: Services, version_id: str, removed: Removed) -> IndexRemoval:
    """A commit that only takes out, and leaves the version's change number as it is.

    A version that has followed a deletion already has nothing of it, and may have the source's next document.
    """
    directory = directory_of(services, version_id)
    n_rows = n_nodes = change = 0
    try:
        with VersionWriter(directory, timeout_seconds=WAIT_SECONDS) as writer:
            before = writer.manifest
            ids = [key for number, document_ids in removed if number > before.change for key in document_ids]
            if ids:
                with writer.commit(change=before.change) as commit:
                    commit.replace_documents(np.unique(np.asarray(ids, dtype=np.int64)))
            manifest = writer.manifest
            n_rows, change = before.n_chunks - manifest.n_chunks, manifest.change
            with services.write() as session:
                versions.set_counts(
                    session,
                    version_id,
                    n_documents=manifest.n_documents,
                    n_chunks=manifest.n_chunks,
                    change_number=manifest.change,
                )
        n_nodes = node_indexes.take_out(services, version_id, timeout_seconds=WAIT_SECONDS)
    except TimeoutError:
        pending = "another process writes to it; the worker applies the deletion with its next commit"
        return IndexRemoval(version=version_id, n_rows=n_rows, change_number=change, pending=pending)
    except (IndexingError, OSError) as error:
        return IndexRemoval(version=version_id, n_rows=n_rows, change_number=change, pending=str(error))
    return IndexRemoval(version=version_id, n_rows=n_rows, change_number=change, n_nodes=n_nodes)


def _remove_version(services: Services, version_id: str, change: int) -> IndexRemoval:
    directory = directory_of(services, version_id)
    services.indexes.forget(version_id)
    shutil.rmtree(directory, ignore_errors=True)
    pending = "its folder could not be removed; the worker removes it" if directory.exists() else None
    return IndexRemoval(version=version_id, n_rows=0, change_number=change, pending=pending)


def directory_of(services: Services, version_id: str) -> Path:
    return services.settings.indexes_dir / version_id


def _probed(
    services: Services, collection_id: int, document_ids: Sequence[int]
) -> tuple[list[Search], tuple[Found, ...], str | None]:
    """The searches, what they find now, and why there are none where the index cannot be read."""
    try:
        searches = probing.prepare(services, collection_id, document_ids)
        return searches, probing.found(services, collection_id, searches), None
    except IndexingError as error:
        return [], (), f"the index could not be probed: {error}"


def _compared(before: Sequence[Found], after: Sequence[Found]) -> Iterator[Probe]:
    then = {item.mode: item for item in before}
    for item in after:
        if item.mode in then:
            yield Probe(
                mode=item.mode,
                n_searches=item.n_searches,
                n_found_before=then[item.mode].n_found,
                n_found_after=item.n_found,
            )


def _files(files: FilesGone) -> dict[str, int]:
    return {"removed": files.n_removed, "kept": files.n_kept, "kept_for_documents": files.n_keepers}
