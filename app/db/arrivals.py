"""Documents that come in together: `insert_new`, a few statements for all. The caller commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Table
from sqlalchemy.orm import Session

from app.db.attributes import set_attributes_of
from app.db.dialects import in_batches, insert
from app.db.documents import MAX_SOURCE_BYTES
from app.db.metadata import flatten
from app.db.tables import CollectionRow, DocumentRow, RevisionRow
from app.db.texts import checked_text
from app.db.types import utc_now

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


def insert_new(session: Session, collection: CollectionRow, new: Mapping[int, NewDocument]) -> frozenset[int]:
    """Accepts documents (by id) that are not there yet, with their first revision; gives the ids of those.

    One that is there is left as it is, for `documents.upsert_pending`. Raises InvalidText, MetadataError.
    """
    values = {key: _document(key, collection.id, item) for key, item in new.items()}
    # Inserted in one order everywhere, so that two processes cannot wait for each other in a circle.
    rows = dict(sorted(values.items()))
    statement = insert(session, DOCUMENTS).on_conflict_do_nothing().returning(DOCUMENTS.c.id)
    inserted: set[int] = set()
    connection = session.connection()
    for batch in in_batches(rows.values()):
        inserted.update(connection.execute(statement, batch).scalars())
    if inserted:
        first = [_first_revision(row) for key, row in rows.items() if key in inserted]
        connection.execute(insert(session, REVISIONS), first)
        set_attributes_of(session, {key: new[key].metadata for key in inserted})
    return frozenset(inserted)


def _document(key: int, collection_id: int, new: NewDocument) -> dict[str, Any]:
    flatten(new.metadata)
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
