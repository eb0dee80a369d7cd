"""Documents: what is kept of a source, and how one content follows another.

Read: `get` · `get_by_source` · `list_page` · `counts` · `pages_of` · `n_unfinished` · `ids_of_collection` ·
`n_with_contents` · `sources_of`. Accept: `upsert_pending` · `reopen` · `wait_again` · `patch`. A revision's
end without success: `set_error`; the steps of its ingestion are in `app.db.batches`, what chunks are cut from
is in `app.db.loaded_texts`, and how a document goes in `app.db.removal`. The caller commits.

A document's `meta` is what filters see: the loader's metadata of the served revision, and over it the user's
own. `attributes` mirrors it in the same transaction. `title` likewise is the user's, else the loader's.

Whoever logs a change does so before touching the document, so that all transactions lock collection, then
document.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.db import collections, revisions
from app.db.attributes import set_attributes
from app.db.dialects import in_batches, insert
from app.db.errors import DocumentNotFound
from app.db.metadata import flatten
from app.db.paging import Page, read_cursor, write_cursor
from app.db.tables import CollectionRow, DocumentRow, RevisionRow
from app.db.texts import checked_text, fault_of, storable
from app.db.types import utc_now
from indexing.types import Page as TextPage
from indexing.types import stable_id

DocumentStatus = Literal["pending", "processing", "ready", "failed"]

# PostgreSQL cannot index more than about 2,700 bytes.
MAX_SOURCE_BYTES = 2000


class Unset(Enum):
    """The value of an argument that was not given, where None means something."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Upserted:
    """An accepted upload: the document, and the revision to be ingested, None where nothing is to do.

    It `is_same` when it brought what was accepted last and has not failed.
    """

    document: DocumentRow
    revision: int | None
    is_new: bool
    is_same: bool = False


def id_of(collection_name: str, source: str) -> int:
    """The id that a document of this source has or would have."""
    return stable_id("document", collection_name, source)


def get(session: Session, document_id: int) -> DocumentRow:
    """Raises DocumentNotFound."""
    row = session.get(DocumentRow, document_id, populate_existing=True)
    if row is None:
        raise DocumentNotFound("there is no such document")
    return row


def get_by_source(session: Session, collection_id: int, source: str) -> DocumentRow | None:
    """The document of this source, or None, as for a text that no source can be."""
    if fault_of(source) is not None:
        return None
    statement = select(DocumentRow).where(
        DocumentRow.collection_id == collection_id, DocumentRow.source == source
    )
    return session.scalars(statement.execution_options(populate_existing=True)).one_or_none()


def list_page(
    session: Session,
    *,
    collection_id: int | None = None,
    status: DocumentStatus | None = None,
    where: ColumnElement[bool] | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[DocumentRow]:
    """Documents by age, the oldest first; `where` is a compiled filter. Raises CursorError."""
    statement = select(DocumentRow).order_by(DocumentRow.created_at, DocumentRow.id).limit(limit + 1)
    if collection_id is not None:
        statement = statement.where(DocumentRow.collection_id == collection_id)
    if status is not None:
        statement = statement.where(DocumentRow.status == status)
    if where is not None:
        statement = statement.where(where)
    if cursor is not None:
        created_at, document_id = read_cursor(cursor, int)
        statement = statement.where(
            tuple_(DocumentRow.created_at, DocumentRow.id) > tuple_(created_at, document_id)
        )
    rows = session.scalars(statement.execution_options(populate_existing=True)).all()
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    return Page(items=rows[:limit], next_cursor=write_cursor(last.created_at, last.id) if last else None)


def counts(session: Session, *, collection_id: int | None = None) -> dict[tuple[int, str], int]:
    """How many documents there are by collection id and status."""
    statement = select(DocumentRow.collection_id, DocumentRow.status, func.count()).group_by(
        DocumentRow.collection_id, DocumentRow.status
    )
    if collection_id is not None:
        statement = statement.where(DocumentRow.collection_id == collection_id)
    return {(owner, status): n_documents for owner, status, n_documents in session.execute(statement)}


def pages_of(session: Session, document_ids: Iterable[int]) -> dict[int, tuple[TextPage, ...]]:
    """The pages of those documents that are served and have any."""
    found: dict[int, tuple[TextPage, ...]] = {}
    for batch in in_batches(sorted(set(document_ids))):
        statement = (
            select(RevisionRow.document_id, RevisionRow.pages)
            .join(DocumentRow, DocumentRow.id == RevisionRow.document_id)
            .where(
                DocumentRow.id.in_(batch),
                DocumentRow.n_pages > 0,
                DocumentRow.revision == RevisionRow.number,
            )
        )
        for document_id, pages in session.execute(statement):
            found[document_id] = tuple(TextPage(**page) for page in pages)
    return found


def n_unfinished(session: Session, document_ids: Iterable[int]) -> int:
    """How many of the documents are neither ready nor failed."""
    n_documents = 0
    for batch in in_batches(sorted(set(document_ids))):
        n_documents += session.scalars(
            select(func.count())
            .select_from(DocumentRow)
            .where(DocumentRow.id.in_(batch), DocumentRow.status.in_(("pending", "processing")))
        ).one()
    return n_documents


def ids_of_collection(session: Session, collection_id: int) -> list[int]:
    """The ids of a collection's documents, sorted."""
    statement = select(DocumentRow.id).where(DocumentRow.collection_id == collection_id)
    return list(session.scalars(statement.order_by(DocumentRow.id)))


def upsert_pending(
    session: Session,
    *,
    collection: CollectionRow,
    source: str,
    content_hash: str,
    n_bytes: int,
    title: str | None = None,
    filename: str | None = None,
    media_type: str | None = None,
    meta: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> Upserted:
    """Accept content for a source.

    The same bytes as the newest accepted ones are no new revision: where they are ready, nothing is to do;
    else the revision that waits, works or failed is given again. New bytes become a new revision, and the one
    served stays until `publish`. Title and metadata, where given, are patched into a document that was there;
    another title is to be ingested as by `reopen`.
    Raises InvalidText, MetadataError.
    """
    now = now or utc_now()
    checked_text("source", source, max_bytes=MAX_SOURCE_BYTES)
    file = {
        "filename": checked_text("filename", filename),
        "media_type": checked_text("media_type", media_type),
        "n_bytes": n_bytes,
    }
    document_id = id_of(collection.name, source)
    given = {name: value for name, value in (meta or {}).items() if value is not None}
    is_new = _insert(session, document_id, collection.id, source, content_hash, title, given, file, now)
    retitled = False
    if is_new:
        set_attributes(session, document_id, given)
    elif title is not None or meta is not None:
        collections.lock(session, collection.id)  # so that the title stays what it was until it is patched
        before = get(session, document_id).title
        patch(session, document_id, title=UNSET if title is None else title, meta=meta, now=now)
        retitled = title is not None and title != before
    document = _locked(session, document_id)
    if not is_new and not retitled and document.content_hash == content_hash and document.status != "failed":
        last = revisions.newest(session, document_id)
        waits = last is not None and document.status != "ready"
        revision = last.number if last and waits else None
        return Upserted(document=document, revision=revision, is_new=False, is_same=True)
    in_work = document.status == "processing"
    number = revisions.accept(session, document_id, content_hash, file, now, in_work=in_work)
    _update(
        session, document_id, content_hash=content_hash, updated_at=now, **_NO_ERROR, **file, status="pending"
    )
    return Upserted(document=get(session, document_id), revision=number, is_new=is_new)


def reopen(session: Session, document_id: int, *, now: datetime | None = None) -> int:
    """A revision of the bytes accepted last, to be ingested: for another title, or a better loader.

    It is a new one unless the newest still waits, or failed: what is in work was begun under the old title.
    Raises DocumentNotFound.
    """
    now = now or utc_now()
    document = _locked(session, document_id)
    file = {"filename": document.filename, "media_type": document.media_type, "n_bytes": document.n_bytes}
    in_work = document.status == "processing"
    number = revisions.accept(session, document_id, document.content_hash, file, now, in_work=in_work)
    _update(session, document_id, status="pending", updated_at=now, **_NO_ERROR)
    return number


def wait_again(session: Session, document_id: int, *, now: datetime | None = None) -> None:
    """Put a document that failed back to pending, for a job that is tried again; another stays as it is.

    Raises DocumentNotFound.
    """
    if _locked(session, document_id).status == "failed":
        _update(session, document_id, status="pending", updated_at=now or utc_now(), **_NO_ERROR)


def patch(
    session: Session,
    document_id: int,
    *,
    title: str | Unset | None = UNSET,
    meta: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> DocumentRow:
    """Set the title where given, merge metadata, in which null removes a name, and log the change.

    A title of None goes back to the loader's. Chunks keep the title they were cut under until the document is
    ingested again; see `reopen`.
    Raises DocumentNotFound, InvalidText, MetadataError.
    """
    now = now or utc_now()
    if title is not UNSET:
        checked_text("title", title)
    flatten(meta or {})
    owner = get(session, document_id).collection_id
    change = collections.next_change(session, owner, document_id, "upsert", now=now)
    document = _locked(session, document_id)
    merged = {name: value for name, value in {**document.meta, **(meta or {})}.items() if value is not None}
    new_title = document.title if title is UNSET else title
    if new_title is None and (served := revisions.served(session, document)) is not None:
        new_title = served.title
    set_attributes(session, document_id, merged)
    _update(session, document_id, title=new_title, meta=merged, change_number=change, updated_at=now)
    return get(session, document_id)


def n_with_contents(session: Session, hashes: Iterable[str]) -> int:
    """How many documents have a revision that needs one of these files."""
    owners: set[int] = set()
    for batch in in_batches(sorted(set(hashes))):
        owners.update(
            session.scalars(
                select(RevisionRow.document_id).where(
                    RevisionRow.content_hash.in_(batch), RevisionRow.status != "superseded"
                )
            )
        )
    return len(owners)


def sources_of(session: Session, collection_id: int) -> Iterator[tuple[int, str]]:
    """(id, source) of every document of a collection."""
    statement = select(DocumentRow.id, DocumentRow.source).where(DocumentRow.collection_id == collection_id)
    yield from session.execute(statement.execution_options(yield_per=1000))


def set_error(
    session: Session, document_id: int, number: int, *, code: str, detail: str, now: datetime | None = None
) -> None:
    """Record why a revision could not be ingested; the document fails with it unless newer content waits.

    The revision that is served stays served, and one that is served does not fail any more.
    Raises DocumentNotFound, RevisionNotFound.
    """
    document = _locked(session, document_id)
    if number <= document.revision:
        return
    revisions.change(session, document_id, number, status="failed")
    if _is_newest(session, document_id, number):
        error = {"error_code": code, "error_detail": storable(detail)}
        _update(session, document_id, status="failed", updated_at=now or utc_now(), **error)


_NO_ERROR: Final = {"error_code": None, "error_detail": None}


def _insert(
    session: Session,
    document_id: int,
    collection_id: int,
    source: str,
    content_hash: str,
    title: str | None,
    meta: Mapping[str, Any],
    file: Mapping[str, Any],
    now: datetime,
) -> bool:
    """Insert unless it is there; say whether it was new."""
    flatten(meta)
    statement = (
        insert(session, DocumentRow)
        .values(
            id=document_id,
            collection_id=collection_id,
            source=source,
            title=checked_text("title", title),
            status="pending",
            content_hash=content_hash,
            meta=dict(meta),
            n_chunks=0,
            n_pages=0,
            revision=0,
            change_number=0,
            created_at=now,
            updated_at=now,
            **file,
        )
        .on_conflict_do_nothing()
        .returning(DocumentRow.id)
    )
    return session.execute(statement).scalar_one_or_none() is not None


def _locked(session: Session, document_id: int) -> DocumentRow:
    """The row, which no other transaction changes until the commit. Raises DocumentNotFound."""
    statement = select(DocumentRow).where(DocumentRow.id == document_id).with_for_update()
    row = session.scalars(statement.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise DocumentNotFound("there is no such document")
    return row


def _is_newest(session: Session, document_id: int, number: int) -> bool:
    last = revisions.newest(session, document_id)
    return last is not None and last.number == number


def _update(session: Session, document_id: int, **values: Any) -> None:
    statement = (
        update(DocumentRow)
        .where(DocumentRow.id == document_id)
        .values(**values)
        .returning(DocumentRow.id)
        .execution_options(synchronize_session=False)
    )
    if session.execute(statement).scalar_one_or_none() is None:
        raise DocumentNotFound("there is no such document")
