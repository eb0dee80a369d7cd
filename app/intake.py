"""Accepting a document: file into the store, then document, revision and job in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from app.db import collections, documents, jobs
from app.db.tables import DocumentRow, JobRow
from app.store import StoredFile

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services

UNSET = documents.UNSET
INGEST = "ingest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A document as it comes in. `source` identifies it within its collection; None takes the file's name."""

    filename: str
    collection: str = "default"
    source: str | None = None
    title: str | None = None
    media_type: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The document, and the job that will make it searchable: None where nothing is to do."""

    document: DocumentRow
    job: JobRow | None
    is_new: bool


def submit(services: Services, submission: Submission, stream: BinaryIO) -> Accepted:
    """Takes a document in. When this returns, the bytes are on disk and the job is in the database.

    The same source with the same bytes changes nothing; with new bytes it becomes a new revision.
    Raises PayloadTooLarge, CollectionNotFound, InvalidText, MetadataError.
    """
    with services.store.adding():
        stored = keep_file(services, stream)
        with services.write() as session:
            return accept(services, session, submission, stored)


def keep_file(services: Services, stream: BinaryIO) -> StoredFile:
    """The first half of `submit`, to be done with the second within `store.adding`: the bytes.

    Raises PayloadTooLarge.
    """
    return services.store.add(stream, max_bytes=services.settings.server.max_upload_bytes)


def accept(services: Services, session: Session, submission: Submission, stored: StoredFile) -> Accepted:
    """The second half of `submit`: document, revision and job, in the caller's transaction."""
    upserted = documents.upsert_pending(
        session,
        collection=collections.get_by_name(session, submission.collection),
        source=submission.source or submission.filename,
        content_hash=stored.content_hash,
        n_bytes=stored.n_bytes,
        title=submission.title,
        filename=submission.filename,
        media_type=submission.media_type,
        meta=submission.metadata,
    )
    waiting = upserted.revision
    job = None if waiting is None else enqueue(services, session, upserted.document, waiting)
    return Accepted(document=upserted.document, job=job, is_new=upserted.is_new)


def enqueue(services: Services, session: Session, document: DocumentRow, revision: int) -> JobRow:
    """The job that ingests a revision; the waiting one where there is one already."""
    return jobs.enqueue(
        session,
        INGEST,
        payload={"revision": revision, "n_bytes": document.n_bytes, "source": document.source},
        collection_id=document.collection_id,
        document_id=document.id,
        dedup_key=f"{INGEST}:{document.id}:{revision}",
        max_attempts=services.settings.worker.max_attempts,
    ).job


def patch(
    services: Services,
    document_id: int,
    *,
    title: str | documents.Unset | None = UNSET,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Changes title and metadata; a job puts a new title before the chunks.

    Raises DocumentNotFound, InvalidText, MetadataError.
    """
    with services.write() as session:
        before = documents.get(session, document_id).title
        document = documents.patch(session, document_id, title=title, meta=metadata)
        if document.title != before:
            enqueue(services, session, document, documents.reopen(session, document_id))


def delete(services: Services, document_id: int) -> documents.Deleted:
    """Takes a document out: no search shows it from now on; the index and the file follow.

    Raises DocumentNotFound.
    """
    with services.write() as session:
        for job in jobs.live_jobs_of_document(session, document_id):
            jobs.cancel(session, job.id)
        removed = documents.delete(session, document_id)
    remove_files(services, removed.content_hashes)
    return removed


def remove_files(services: Services, content_hashes: Sequence[str]) -> None:
    """Removes files that no revision names any more (the same bytes may belong to another document)."""
    if not content_hashes:
        return
    with services.store.removing(), services.read() as session:
        for content_hash in documents.unreferenced(session, content_hashes):
            services.store.remove(content_hash)
