"""Documents removed, with all that belongs to them: `delete` · `delete_all` · `rows_of_collection`.

The caller commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Column, ColumnElement, Table, func, select
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import identity_key

from app.db import collections, documents, generated, nodes, revisions
from app.db.dialects import in_batches
from app.db.tables import Base, ChunkRow, DocumentRow, RevisionRow

_DOCUMENTS = cast(Table, DocumentRow.__table__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """What a deletion took away.

    `rows` counts by table; `content_hashes` are the files that no document needs any more, of all that the
    documents had; `text_hashes` are those of their chunks.
    """

    document_ids: tuple[int, ...]
    rows: Mapping[str, int]
    change_number: int
    content_hashes: tuple[str, ...]
    all_content_hashes: tuple[str, ...]
    text_hashes: frozenset[str]

    @property
    def n_chunks(self) -> int:
        return self.rows["chunks"]


def delete(session: Session, document_id: int, *, now: datetime | None = None) -> Deleted:
    """Remove a document with its chunks, revisions and attributes, and log the change.

    Raises DocumentNotFound.
    """
    owner = documents.get(session, document_id).collection_id
    return delete_all(session, owner, [document_id], now=now)


def delete_all(
    session: Session, collection_id: int, document_ids: Iterable[int], *, now: datetime | None = None
) -> Deleted:
    """The same for those of the documents that are in the collection, with one change each."""
    # Locked before they are looked for: what another deletes meanwhile is not there any more.
    collections.lock(session, collection_id)
    wanted = select(DocumentRow.id).where(DocumentRow.collection_id == collection_id).order_by(DocumentRow.id)
    batches = list(in_batches(sorted(set(document_ids))))
    present = [key for batch in batches for key in session.scalars(wanted.where(DocumentRow.id.in_(batch)))]
    change = collections.log_changes(session, collection_id, present, "delete", now=now)
    rows: Counter[str] = Counter()
    contents: set[str] = set()
    texts: set[str] = set()
    for batch in in_batches(present):
        # The documents first, as whoever publishes locks them.
        session.execute(wanted.where(DocumentRow.id.in_(batch)).with_for_update()).all()
        sources = session.scalars(select(DocumentRow.source).where(DocumentRow.id.in_(batch)))
        if n_questions := generated.forget(session, collection_id, sources):
            rows["golden_questions"] += n_questions
        contents.update(
            session.scalars(select(RevisionRow.content_hash).where(RevisionRow.document_id.in_(batch)))
        )
        cut = select(ChunkRow.id, ChunkRow.text_hash).where(ChunkRow.document_id.in_(batch))
        chunks = session.execute(cut).all()
        texts.update(text_hash for _, text_hash in chunks)
        rows.update(asdict(nodes.forget_resting_on(session, (chunk_id for chunk_id, _ in chunks))))
        for table, column in _owned():
            rows[table.name] += _n_deleted(session, table, column.in_(batch))
        rows["documents"] += _n_deleted(session, _DOCUMENTS, _DOCUMENTS.c.id.in_(batch))
    for key in present:
        row = session.identity_map.get(identity_key(DocumentRow, key))
        if row is not None:
            session.expunge(row)
    return Deleted(
        document_ids=tuple(present),
        rows=rows,
        change_number=change,
        content_hashes=revisions.unreferenced(session, contents),
        all_content_hashes=tuple(sorted(contents)),
        text_hashes=frozenset(texts),
    )


def _owned() -> list[tuple[Table, Column[Any]]]:
    """Every table whose rows belong to a document, and the column that says to which; inner ones first."""
    keys: list[Column[Any]] = [_DOCUMENTS.c.id]
    for table in Base.metadata.sorted_tables:
        keys += [key.parent for key in table.foreign_keys if any(key.column is known for known in keys)]
    return [(column.table, column) for column in reversed(keys[1:])]


def _n_deleted(session: Session, table: Table, condition: ColumnElement[bool]) -> int:
    return session.connection().execute(delete_from(table).where(condition)).rowcount


def rows_of_collection(session: Session, collection_id: int) -> dict[str, int]:
    """How many rows of each table belong to the documents of a collection."""
    members = select(DocumentRow.id).where(DocumentRow.collection_id == collection_id)
    found = {
        table.name: session.scalars(select(func.count()).select_from(table).where(column.in_(members))).one()
        for table, column in _owned()
    }
    return {**found, "documents": sum(documents.counts(session, collection_id=collection_id).values())}
