"""The steps of ingestion for many documents of one collection at once: a few statements a step.

`insert_new` takes documents in. `begin` · `save` · `publish`: each locks the collection first, then its
documents in the order of their ids, as everything does that logs changes. What was deleted, or overtaken by newer
content, is left out of the result, which is no error. The caller commits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Row, Table, bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from app.db import chunks, collections
from app.db.attributes import set_attributes_of
from app.db.dialects import in_batches, insert
from app.db.documents import MAX_SOURCE_BYTES, RevisionFile
from app.db.revisions import unreferenced
from app.db.tables import ChunkRow, CollectionRow, DocumentRow, RevisionRow
from app.db.texts import checked_text
from app.db.types import utc_now
from indexing.types import Chunk, LoadedText

DOCUMENTS = cast(Table, DocumentRow.__table__)
REVISIONS = cast(Table, RevisionRow.__table__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document as it comes in; its id follows from the collection and the source."""

    source: str
    content_hash: str
    n_bytes: int
    filename: str
    title: str | None = None
    media_type: str | None = None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRevision:
    """A revision's text, and the chunks that it was cut into."""

    document_id: int
    number: int
    text: LoadedText
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The documents that were served anew, and the files that no document needs any more."""

    document_ids: frozenset[int]
    content_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A document with the revision a step is about, the one served now, and all that came before."""

    document: DocumentRow
    revision: Row[Any]
    served: Row[Any] | None
    earlier: tuple[Row[Any], ...]
    is_newest: bool

    @property
    def own_title(self) -> str | None:
        """The title that the user gave; None where it is only what the served revision's loader said."""
        loaded = self.served.title if self.served is not None else None
        return None if self.served is not None and self.document.title == loaded else self.document.title

    @property
    def metadata(self) -> dict[str, Any]:
        """What the loader says of this revision, and over it the user's own."""
        loaded = self.served.metadata if self.served is not None else {}
        own = {k: v for k, v in self.document.meta.items() if k not in loaded or loaded[k] != v}
        return {**self.revision.metadata, **own}


def insert_new(session: Session, collection: CollectionRow, new: Mapping[int, NewDocument]) -> frozenset[int]:
    """Accepts documents (by id) that are not there yet, with their first revision; gives the ids of those.

    One that is there is left as it is, for `documents.upsert_pending`. Raises InvalidText, MetadataError.
    """
    values = {key: _new_values(key, collection.id, item) for key, item in new.items()}
    # Inserted in one order everywhere, so that two processes cannot wait for each other in a circle.
    rows = dict(sorted(values.items()))
    statement = insert(session, DOCUMENTS).on_conflict_do_nothing().returning(DOCUMENTS.c.id)
    inserted: set[int] = set()
    connection = session.connection()
    for batch in in_batches(rows.values()):
        inserted.update(connection.execute(statement, batch).scalars())
    if inserted:
        connection.execute(
            insert(session, REVISIONS), [_first_revision(rows[key]) for key in rows if key in inserted]
        )
        set_attributes_of(session, {key: new[key].metadata for key in inserted})
    return frozenset(inserted)


def _new_values(key: int, collection_id: int, new: NewDocument) -> dict[str, Any]:
    now = utc_now()  # one each, so that documents are listed in the order they came in
    return {
        "id": key,
        "collection_id": collection_id,
        "source": checked_text("source", new.source, max_bytes=MAX_SOURCE_BYTES),
        "title": checked_text("title", new.title),
        "status": "pending",
        "content_hash": new.content_hash,
        "metadata": dict(new.metadata),
        "filename": checked_text("filename", new.filename),
        "media_type": checked_text("media_type", new.media_type),
        "n_bytes": new.n_bytes,
        "n_chunks": 0,
        "n_pages": 0,
        "revision": 0,
        "change_number": 0,
        "created_at": now,
        "updated_at": now,
    }


def _first_revision(document: Mapping[str, Any]) -> dict[str, Any]:
    same = ("content_hash", "filename", "media_type", "n_bytes", "status", "created_at")
    nothing: dict[str, Any] = {"metadata": {}, "pages": [], "headings": [], "blocks": []}
    return {name: document[name] for name in same} | nothing | {"document_id": document["id"], "number": 1}


def begin(
    session: Session, numbers: Mapping[int, int], *, now: datetime | None = None
) -> dict[int, RevisionFile]:
    """Marks revisions (number by document id) as being worked on; gives what to load, by document id.

    Left out is also what needs no work: the revision is served already, or newer content waits.
    """
    steps = [
        step
        for step in _steps(session, numbers)
        if step.is_newest and step.revision.number > step.document.revision
    ]
    for batch in in_batches(step.document.id for step in steps):
        session.execute(
            update(DOCUMENTS)
            .where(DOCUMENTS.c.id.in_(batch))
            .values(status="processing", error_code=None, error_detail=None, updated_at=now or utc_now())
        )
    return {
        step.document.id: RevisionFile(
            document_id=step.document.id,
            revision=step.revision.number,
            content_hash=step.revision.content_hash,
            source=step.document.source,
            filename=step.revision.filename,
            media_type=step.revision.media_type,
            n_bytes=step.revision.n_bytes,
            title=step.own_title,
        )
        for step in steps
    }


def save(
    session: Session,
    collection_id: int,
    loaded: Sequence[LoadedRevision],
    chunker: str,
    *,
    now: datetime | None = None,
) -> frozenset[int]:
    """Keeps texts and chunks, and logs the changes; gives the documents it was done for.

    The chunks of the revision that is served stay beside the new ones until `publish`.
    """
    collections.lock(session, collection_id)
    steps = _steps(session, {item.document_id: item.number for item in loaded})
    live = frozenset(step.document.id for step in steps)
    items = [item for item in loaded if item.document_id in live]
    collections.log_changes(session, collection_id, sorted(live), "upsert", now=now)
    if items:
        names = ("text", "title", "metadata", "pages", "headings", "blocks")
        session.connection().execute(
            update(REVISIONS)
            .where(REVISIONS.c.document_id == bindparam("key"), REVISIONS.c.number == bindparam("revision"))
            .values({name: bindparam(f"new_{name}") for name in names}),
            [_text_of(item) for item in items],
        )
    for number in sorted({item.number for item in items}):
        cut = [chunk for item in items if item.number == number for chunk in item.chunks]
        chunks.insert(session, number, chunker, cut)
    return live


def publish(
    session: Session,
    collection_id: int,
    numbers: Mapping[int, int],
    chunker: str,
    *,
    now: datetime | None = None,
) -> Published:
    """Serves these revisions (number by document id) from now on; can be run twice.

    Chunks and texts of earlier revisions go; where there were chunks, that is a change. A document is ready
    unless newer content waits. `chunker` is that of the index served, under which `n_chunks` counts.
    """
    now = now or utc_now()
    collections.lock(session, collection_id)
    steps = _steps(session, numbers)
    ids = [step.document.id for step in steps]
    n_chunks, with_others = _count_chunks(session, numbers, ids, chunker)
    collections.log_changes(session, collection_id, sorted(with_others), "upsert", now=now)
    for key in sorted(with_others):
        others = (ChunkRow.document_id == key, ChunkRow.revision != numbers[key])
        session.execute(delete(ChunkRow).where(*others).execution_options(synchronize_session=False))
    if steps:
        _serve(session, steps, n_chunks, now)
    freed = _supersede(session, steps)
    return Published(document_ids=frozenset(ids), content_hashes=unreferenced(session, freed))


def _steps(session: Session, numbers: Mapping[int, int]) -> list[_Step]:
    """The documents that are there, locked, without those whose revision is behind the served one."""
    documents: list[DocumentRow] = []
    history: dict[int, list[Row[Any]]] = defaultdict(list)
    for batch in in_batches(sorted(numbers)):
        documents += session.scalars(
            select(DocumentRow)
            .where(DocumentRow.id.in_(batch))
            .order_by(DocumentRow.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        columns = [column for column in REVISIONS.c if column.name not in ("text", "headings", "blocks")]
        statement = select(*columns).where(REVISIONS.c.document_id.in_(batch)).order_by(REVISIONS.c.number)
        for row in session.execute(statement):
            history[row.document_id].append(row)
    steps = []
    for document in documents:
        number, rows = numbers[document.id], history[document.id]
        revision = next((row for row in rows if row.number == number), None)
        if revision is None or number < document.revision:
            continue
        steps.append(
            _Step(
                document=document,
                revision=revision,
                served=next((row for row in rows if row.number == document.revision), None),
                earlier=tuple(row for row in rows if row.number < number and row.status != "superseded"),
                is_newest=rows[-1].number == number,
            )
        )
    return steps


def _text_of(item: LoadedRevision) -> dict[str, Any]:
    loaded = item.text
    return {
        "key": item.document_id,
        "revision": item.number,
        "new_text": loaded.text,
        "new_title": loaded.title,
        "new_metadata": dict(loaded.metadata),
        "new_pages": [asdict(page) for page in loaded.pages],
        "new_headings": [asdict(heading) for heading in loaded.headings],
        "new_blocks": [asdict(block) for block in loaded.blocks],
    }


def _count_chunks(
    session: Session, numbers: Mapping[int, int], document_ids: Sequence[int], chunker: str
) -> tuple[dict[int, int], set[int]]:
    """How many chunks of its revision each document has, and which documents have chunks of another one."""
    n_chunks: dict[int, int] = {}
    with_others: set[int] = set()
    group = (ChunkRow.document_id, ChunkRow.revision, ChunkRow.chunker)
    for batch in in_batches(document_ids):
        statement = select(*group, func.count()).where(ChunkRow.document_id.in_(batch)).group_by(*group)
        for document_id, revision, cut_by, n in session.execute(statement):
            if revision != numbers[document_id]:
                with_others.add(document_id)
            elif cut_by == chunker:
                n_chunks[document_id] = n
    return n_chunks, with_others


def _serve(session: Session, steps: Sequence[_Step], n_chunks: Mapping[int, int], now: datetime) -> None:
    connection = session.connection()
    connection.execute(
        update(REVISIONS)
        .where(
            REVISIONS.c.document_id == bindparam("key"), REVISIONS.c.number == bindparam("revision_number")
        )
        .values(status="ready", ready_at=now),
        [{"key": step.document.id, "revision_number": step.revision.number} for step in steps],
    )
    names = ("revision", "title", "metadata", "n_chunks", "n_pages", "status", "error_code", "error_detail")
    connection.execute(
        update(DOCUMENTS)
        .where(DOCUMENTS.c.id == bindparam("key"))
        .values({name: bindparam(f"new_{name}") for name in names} | {"updated_at": now}),
        [_served_values(step, n_chunks.get(step.document.id, 0)) for step in steps],
    )
    set_attributes_of(session, {step.document.id: step.metadata for step in steps})


def _served_values(step: _Step, n_chunks: int) -> dict[str, Any]:
    document = step.document
    return {
        "key": document.id,
        "new_revision": step.revision.number,
        "new_title": step.own_title or step.revision.title,
        "new_metadata": step.metadata,
        "new_n_chunks": n_chunks,
        "new_n_pages": len(step.revision.pages),
        "new_status": "ready" if step.is_newest else document.status,
        "new_error_code": None if step.is_newest else document.error_code,
        "new_error_detail": None if step.is_newest else document.error_detail,
    }


def _supersede(session: Session, steps: Iterable[_Step]) -> list[str]:
    """Ends the revisions before those served now: the rows stay as a record, without the text."""
    freed = []
    for step in steps:
        if step.earlier:
            freed += [row.content_hash for row in step.earlier]
            session.execute(
                update(REVISIONS)
                .where(REVISIONS.c.document_id == step.document.id, REVISIONS.c.number < step.revision.number)
                .values(status="superseded", text=None, pages=[], headings=[], blocks=[])
            )
    return freed
