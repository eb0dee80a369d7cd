"""Accepting a document: file into the store, then document, revision and job in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from app.db import arrivals, collections, deletions, documents, idempotency, jobs, removal, revisions, vectors
from app.db.arrivals import NewDocument
from app.db.errors import DocumentNotFound, InvalidText, MetadataError
from app.db.metadata import flatten
from app.db.tables import DocumentRow, JobRow
from app.db.texts import checked_text
from app.ids import format_id
from app.store import StoredFile
from indexing.files import checkpoint

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services

UNSET = documents.UNSET
INGEST = "ingest"

MAX_TITLE_CHARS = 1000
MAX_METADATA_BYTES = 64 * 1024  # as JSON in UTF-8


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
    """The document, and the job that will make it searchable: None where nothing is to do.

    Where it `is_same` nothing changed, and the job is the one that was waiting already.
    """

    document: DocumentRow
    job: JobRow | None
    is_new: bool
    is_same: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A document that was taken in with others, and whether a job waits for it."""

    document_id: int
    waits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesGone:
    """Original files removed, and those kept because the same bytes belong to `n_keepers` other documents."""

    n_removed: int
    n_kept: int
    n_keepers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOut:
    """What a deletion has done to the database and the store; `rows` counts by table."""

    deletion_id: str
    collection_id: int
    document_ids: tuple[int, ...]
    change_number: int
    rows: Mapping[str, int]
    files: FilesGone
    n_in_work: int


def submit(services: Services, submission: Submission, stream: BinaryIO) -> Accepted:
    """Takes a document in. When this returns, the bytes are on disk and the job is in the database.

    The same source with the same bytes and title changes nothing; with others it becomes a new revision.
    Raises PayloadTooLarge, CollectionNotFound, InvalidText, MetadataError.
    """
    _check(submission)  # before the bytes are kept
    with services.store.adding():
        stored = keep_file(services, stream)
        with services.write() as session:
            accepted = accept(services, session, submission, stored)
            checkpoint("document-accepting")
        checkpoint("document-accepted")
        return accepted


def keep_file(services: Services, stream: BinaryIO) -> StoredFile:
    """The first half of `submit`, to be done with the second within `store.adding`: the bytes.

    Raises PayloadTooLarge.
    """
    return services.store.add(stream, max_bytes=services.settings.server.max_upload_bytes)


def accept(services: Services, session: Session, submission: Submission, stored: StoredFile) -> Accepted:
    """The second half of `submit`: document, revision and job, in the caller's transaction."""
    _check(submission)
    collection = collections.get_by_name(session, submission.collection)
    source = submission.source or submission.filename
    present = documents.get_by_source(session, collection.id, source) if submission.metadata else None
    size = _n_bytes(present.meta) if present is not None else 0
    upserted = documents.upsert_pending(
        session,
        collection=collection,
        source=source,
        content_hash=stored.content_hash,
        n_bytes=stored.n_bytes,
        title=submission.title,
        filename=submission.filename,
        media_type=submission.media_type,
        meta=submission.metadata,
    )
    _check_growth(size, upserted.document.meta if submission.metadata else {})
    waiting = upserted.revision
    job = None if waiting is None else enqueue(services, session, upserted.document, waiting)
    return Accepted(document=upserted.document, job=job, is_new=upserted.is_new, is_same=upserted.is_same)


def accept_all(
    services: Services, session: Session, files: Sequence[tuple[Submission, StoredFile]]
) -> list[Taken]:
    """`accept` for many files, in the caller's transaction: new documents take a few statements together."""
    owners = {name: collections.get_by_name(session, name) for name in {item.collection for item, _ in files}}
    new: dict[str, dict[int, NewDocument]] = {name: {} for name in owners}
    for submission, stored in files:
        _check(submission)
        # Where two files have the same source, the second is a revision of the first.
        new[submission.collection].setdefault(_id_of(submission), _new_document(submission, stored))
    inserted: set[int] = set()
    for name, found in new.items():
        placed = arrivals.insert_new(session, owners[name], found)
        _enqueue_first(services, session, owners[name].id, {k: d for k, d in found.items() if k in placed})
        inserted |= placed
    taken = []
    for submission, stored in files:
        document_id = _id_of(submission)
        if document_id in inserted:
            inserted.remove(document_id)
            taken.append(Taken(document_id=document_id, waits=True))
        else:
            waits = accept(services, session, submission, stored).job is not None
            taken.append(Taken(document_id=document_id, waits=waits))
    return taken


def _check(submission: Submission) -> None:
    """Raises InvalidText, MetadataError for what is too long."""
    checked_text("source", submission.source or submission.filename, max_bytes=documents.MAX_SOURCE_BYTES)
    _check_title(submission.title)
    _check_size(submission.metadata or {})


def _check_title(title: str | documents.Unset | None) -> None:
    if isinstance(title, str) and len(title) > MAX_TITLE_CHARS:
        raise InvalidText(f"title is longer than {MAX_TITLE_CHARS} characters")


def _check_size(metadata: Mapping[str, Any]) -> None:
    if _n_bytes(metadata) > MAX_METADATA_BYTES:
        raise MetadataError(f"the metadata is longer than {MAX_METADATA_BYTES} bytes of JSON")


def _check_growth(before: int, metadata: Mapping[str, Any]) -> None:
    """What was merged does not pass the limit; with what a loader gave it may be beyond it already."""
    if _n_bytes(metadata) > before:
        _check_size(metadata)


def _n_bytes(metadata: Mapping[str, Any]) -> int:
    flatten(metadata)  # names what is no JSON at all
    return len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())


def _id_of(submission: Submission) -> int:
    return documents.id_of(submission.collection, submission.source or submission.filename)


def _new_document(submission: Submission, stored: StoredFile) -> NewDocument:
    return NewDocument(
        source=submission.source or submission.filename,
        content_hash=stored.content_hash,
        n_bytes=stored.n_bytes,
        filename=submission.filename,
        title=submission.title,
        media_type=submission.media_type,
        metadata={name: value for name, value in (submission.metadata or {}).items() if value is not None},
    )


def _enqueue_first(
    services: Services, session: Session, collection_id: int, new: Mapping[int, NewDocument]
) -> None:
    first = [
        jobs.NewJob(
            collection_id=collection_id,
            document_id=document_id,
            payload=_payload(1, document.n_bytes, document.source),
            dedup_key=_dedup_key(document_id, 1),
        )
        for document_id, document in new.items()
    ]
    jobs.enqueue_all(session, INGEST, first, max_attempts=services.settings.worker.max_attempts)


def enqueue(services: Services, session: Session, document: DocumentRow, revision: int) -> JobRow:
    """The job that ingests a revision; the waiting one where there is one already."""
    return jobs.enqueue(
        session,
        INGEST,
        payload=_payload(revision, document.n_bytes, document.source),
        collection_id=document.collection_id,
        document_id=document.id,
        dedup_key=_dedup_key(document.id, revision),
        max_attempts=services.settings.worker.max_attempts,
    ).job


def _payload(revision: int, n_bytes: int, source: str) -> dict[str, Any]:
    return {"revision": revision, "n_bytes": n_bytes, "source": source}


def _dedup_key(document_id: int, revision: int) -> str:
    return f"{INGEST}:{document_id}:{revision}"


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
    _check_title(title)
    _check_size(metadata or {})
    with services.write() as session:
        # Locked as by whatever logs a change: the title is compared with the one that it replaces.
        collections.lock(session, documents.get(session, document_id).collection_id)
        row = documents.get(session, document_id)
        before, size = row.title, _n_bytes(row.meta)
        document = documents.patch(session, document_id, title=title, meta=metadata)
        _check_growth(size, document.meta)
        if document.title != before:
            enqueue(services, session, document, documents.reopen(session, document_id))
        checkpoint("document-patching")
    checkpoint("document-patched")


def delete(services: Services, document_id: int) -> TakenOut:
    """Takes a document out: no search shows it from now on; the index follows.

    Raises DocumentNotFound.
    """
    with services.read() as session:
        owner = documents.get(session, document_id).collection_id
    return delete_all(services, owner, [document_id])


def delete_all(services: Services, collection_id: int, document_ids: Iterable[int]) -> TakenOut:
    """The same for those of the documents that are in the collection, with one receipt for all.

    Everything that the database keeps of them goes in one transaction, and so do what kept answers and jobs
    say of them, and the vectors of texts that no other chunk has. `app.documents.deleting` does the rest at
    once. Raises DocumentNotFound where none is there.
    """
    with services.write() as session:
        # In this order, as publishing does it: what locks job before collection deadlocks with it.
        deleted = removal.delete_all(session, collection_id, document_ids)
        if not deleted.document_ids:
            raise DocumentNotFound("there is no such document")
        live = [job for key in deleted.document_ids for job in jobs.live_jobs_of_document(session, key)]
        in_work = [job.id for job in live if jobs.cancel(session, job.id).status == "doing"]
        rows = {
            **deleted.rows,
            "vectors": deleted.rows["vectors"] + vectors.forget_unused(session, deleted.text_hashes),
            "redacted_jobs": deletions.redact_jobs(session, deleted.document_ids),
            "redacted_answers": idempotency.redact(session, deleted.document_ids),
        }
        receipt = deletions.record(
            session,
            "documents",
            collection_id=collection_id,
            collection=collections.get(session, collection_id).name,
            document_ids=[format_id(key) for key in deleted.document_ids],
            change_number=deleted.change_number,
            receipt={"rows": rows},
        )
        checkpoint("document-deleting")
    checkpoint("document-deleted")
    return TakenOut(
        deletion_id=receipt.id,
        collection_id=collection_id,
        document_ids=deleted.document_ids,
        change_number=deleted.change_number,
        rows=rows,
        files=remove_files(services, deleted.content_hashes, deleted.all_content_hashes),
        n_in_work=len(in_work),
    )


def remove_files(
    services: Services, content_hashes: Sequence[str], all_hashes: Sequence[str] | None = None
) -> FilesGone:
    """Removes files that no revision names any more (the same bytes may belong to another document).

    With `all_hashes` it also says for how many documents the others of them are kept.
    """
    every = content_hashes if all_hashes is None else all_hashes
    if not every:
        return FilesGone(n_removed=0, n_kept=0, n_keepers=0)
    with services.store.removing(), services.read() as session:
        gone = revisions.unreferenced(session, content_hashes)
        kept = set(every) - set(gone)
        n_removed = sum(services.store.remove(content_hash) for content_hash in gone)
        n_keepers = documents.n_with_contents(session, kept)
    return FilesGone(n_removed=n_removed, n_kept=len(kept), n_keepers=n_keepers)


def sweep_files(services: Services, stop: Callable[[], bool] = lambda: False) -> int:
    """Removes files that no revision names: what a kill left between the store and the database; how many.

    Folder by folder, so that no one who adds a file waits long. `stop` is asked before each.
    """
    n_removed = 0
    for names in services.store.folders():
        if stop():
            break
        n_removed += remove_files(services, names).n_removed
    return n_removed
