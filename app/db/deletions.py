"""Receipts of deletions, kept: `record` · `note` · `get` · `list_page` · `unpurged` · `mark_purged`.

Also what other tables say of a document that is gone: `redact_jobs` · `redact_jobs_of_collection`. The caller
commits. A receipt holds ids and numbers, and neither text nor names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import ColumnElement, select, tuple_, update
from sqlalchemy.orm import Session

from app.db.dialects import in_batches
from app.db.errors import DeletionNotFound
from app.db.paging import Page, read_cursor, write_cursor
from app.db.tables import DeletionRow, JobRow
from app.db.types import utc_now

DeletionKind = Literal["documents", "collection"]


def record(
    session: Session,
    kind: DeletionKind,
    *,
    collection_id: int,
    collection: str,
    document_ids: Iterable[str],
    change_number: int,
    receipt: Mapping[str, Any],
    now: datetime | None = None,
) -> DeletionRow:
    """Keeps a receipt, in the transaction of the deletion."""
    row = DeletionRow(
        id=uuid4().hex,
        kind=kind,
        collection_id=collection_id,
        collection=collection,
        document_ids=list(document_ids),
        change_number=change_number,
        receipt=dict(receipt),
        deleted_at=now or utc_now(),
    )
    session.add(row)
    session.flush()
    return row


def note(session: Session, deletion_id: str, receipt: Mapping[str, Any]) -> DeletionRow:
    """Puts another receipt in the place of the first: what was done since. Raises DeletionNotFound."""
    get(session, deletion_id).receipt = dict(receipt)
    session.flush()
    return get(session, deletion_id)


def get(session: Session, deletion_id: str) -> DeletionRow:
    """Raises DeletionNotFound."""
    row = session.get(DeletionRow, deletion_id, populate_existing=True)
    if row is None:
        raise DeletionNotFound("there is no such deletion")
    return row


def list_page(
    session: Session, *, collection_id: int | None = None, limit: int = 50, cursor: str | None = None
) -> Page[DeletionRow]:
    """Deletions, the newest first. Raises CursorError."""
    statement = select(DeletionRow).order_by(DeletionRow.deleted_at.desc(), DeletionRow.id.desc())
    if collection_id is not None:
        statement = statement.where(DeletionRow.collection_id == collection_id)
    if cursor is not None:
        deleted_at, deletion_id = read_cursor(cursor, str)
        statement = statement.where(
            tuple_(DeletionRow.deleted_at, DeletionRow.id) < tuple_(deleted_at, deletion_id)
        )
    rows = session.scalars(statement.limit(limit + 1).execution_options(populate_existing=True)).all()
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    return Page(items=rows[:limit], next_cursor=write_cursor(last.deleted_at, last.id) if last else None)


def unpurged(session: Session, collection_id: int) -> Sequence[DeletionRow]:
    """The deletions of a collection whose bytes may still be somewhere, the oldest first."""
    statement = (
        select(DeletionRow)
        .where(DeletionRow.collection_id == collection_id, DeletionRow.purged_at.is_(None))
        .order_by(DeletionRow.change_number, DeletionRow.id)
    )
    return session.scalars(statement).all()


def mark_purged(session: Session, deletion_ids: Iterable[str], *, now: datetime | None = None) -> None:
    """Records that no byte of what these deletions took away is left."""
    for batch in in_batches(deletion_ids):
        session.execute(
            update(DeletionRow)
            .where(DeletionRow.id.in_(batch), DeletionRow.purged_at.is_(None))
            .values(purged_at=now or utc_now())
            .execution_options(synchronize_session=False)
        )


def redact_jobs(session: Session, document_ids: Iterable[int]) -> int:
    """Drops names and messages from the jobs of documents; how many jobs there are."""
    return sum(_redact(session, JobRow.document_id.in_(batch)) for batch in in_batches(document_ids))


def redact_jobs_of_collection(session: Session, collection_id: int) -> int:
    """The same for every job of a collection."""
    return _redact(session, JobRow.collection_id == collection_id)


def _redact(session: Session, where: ColumnElement[bool]) -> int:
    rows = session.execute(select(JobRow.id, JobRow.payload).where(where).order_by(JobRow.id)).all()
    if rows:
        session.execute(
            update(JobRow),
            [
                {
                    "id": job_id,
                    "payload": {name: value for name, value in payload.items() if name != "source"},
                    "error_detail": None,
                    "progress_note": None,
                }
                for job_id, payload in rows
            ],
        )
    return len(rows)
