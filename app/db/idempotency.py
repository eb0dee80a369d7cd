"""Answers kept by the key of the request.

`reserve` · `renew` · `complete` · `release` · `redact` · `forget_old`. The caller commits.

Whoever reserves a key holds it under a lease. One that dies leaves a lease that ends, and the next request
with the key takes it over: what it does again is harmless, since the same source is the same document.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from app.db.dialects import in_batches, insert
from app.db.queue import CLOCK_SKEW_SECONDS
from app.db.tables import DocumentRow, IdempotencyKeyRow
from app.db.types import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """The row of a key; `is_mine` where this request is to do the work and give the answer."""

    row: IdempotencyKeyRow
    is_mine: bool


def reserve(
    session: Session,
    key: str,
    *,
    method: str,
    path: str,
    holder: str,
    lease_seconds: float,
    now: datetime | None = None,
) -> Reserved:
    """Takes the key, or gives what is kept under it; `status_code` is None while another works on it.

    A key whose holder let the lease end is taken over by a request of the same method and path.
    """
    now = now or utc_now()
    ends = now + timedelta(seconds=lease_seconds)
    statement = (
        insert(session, IdempotencyKeyRow)
        .values(
            key=key,
            method=method,
            path=path,
            request_hash="",
            created_at=now,
            holder=holder,
            lease_expires_at=ends,
        )
        .on_conflict_do_update(
            index_elements=[IdempotencyKeyRow.key],
            set_={"holder": holder, "lease_expires_at": ends},
            where=(IdempotencyKeyRow.status_code.is_(None))
            # A lease that ends later than any that is given now is of a time before the clock was set back.
            & (
                (IdempotencyKeyRow.lease_expires_at <= now)
                | (IdempotencyKeyRow.lease_expires_at > ends + timedelta(seconds=CLOCK_SKEW_SECONDS))
            )
            & (IdempotencyKeyRow.method == method)
            & (IdempotencyKeyRow.path == path),
        )
        .returning(IdempotencyKeyRow.key)
    )
    while True:
        is_mine = session.execute(statement).scalar_one_or_none() is not None
        row = session.get(IdempotencyKeyRow, key, populate_existing=True)
        # Another request can have released the key in between.
        if row is not None:
            return Reserved(row=row, is_mine=is_mine)


def renew(
    session: Session, key: str, holder: str, *, lease_seconds: float, now: datetime | None = None
) -> None:
    """Puts the end of the lease off."""
    ends = (now or utc_now()) + timedelta(seconds=lease_seconds)
    _update(session, key, holder, lease_expires_at=ends)


def complete(
    session: Session,
    key: str,
    holder: str,
    *,
    request_hash: str,
    status_code: int,
    response: Any,
    document_id: int | None = None,
) -> None:
    """Keeps the answer of the request that holds the key; where another has taken it over, nothing.

    An answer about a document that was deleted meanwhile is kept without what it said: see `redact`.
    """
    if document_id is not None:
        # Locked: a deletion either has gone before, or waits and then finds this answer.
        document = session.get(DocumentRow, document_id, populate_existing=True, with_for_update=True)
        response = response if document is not None else None
    _update(
        session,
        key,
        holder,
        request_hash=request_hash,
        status_code=status_code,
        response=response,
        document_id=document_id,
        lease_expires_at=None,
    )


def release(session: Session, key: str, holder: str) -> None:
    """Gives the key back where the request failed, so that it can be repeated."""
    session.execute(
        delete(IdempotencyKeyRow)
        .where(
            IdempotencyKeyRow.key == key,
            IdempotencyKeyRow.holder == holder,
            IdempotencyKeyRow.status_code.is_(None),
        )
        .execution_options(synchronize_session=False)
    )


def redact(session: Session, document_ids: Iterable[int]) -> int:
    """Drops what kept answers say of documents that are deleted; how many answers did.

    The keys stay, so that a late repetition does not bring the document back.
    """
    n_answers = 0
    for batch in in_batches(document_ids):
        rows = session.execute(
            update(IdempotencyKeyRow)
            .where(IdempotencyKeyRow.document_id.in_(batch), IdempotencyKeyRow.response.is_not(None))
            .values(response=None)
            .returning(IdempotencyKeyRow.key)
            .execution_options(synchronize_session=False)
        )
        n_answers += len(rows.all())
    return n_answers


def forget_old(session: Session, *, before: datetime) -> int:
    """Drops the keys taken before an instant; how many went."""
    statement = delete(IdempotencyKeyRow).where(IdempotencyKeyRow.created_at < before)
    rows = session.execute(
        statement.returning(IdempotencyKeyRow.key).execution_options(synchronize_session=False)
    )
    return len(rows.all())


def _update(session: Session, key: str, holder: str, **values: Any) -> None:
    session.execute(
        update(IdempotencyKeyRow)
        .where(
            IdempotencyKeyRow.key == key,
            IdempotencyKeyRow.holder == holder,
            IdempotencyKeyRow.status_code.is_(None),
        )
        .values(**values)
        .execution_options(synchronize_session=False)
    )
