"""Answers kept by the key of the request: `reserve` · `complete` · `release` · `forget_old`.

The caller commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from app.db.dialects import insert
from app.db.tables import IdempotencyKeyRow
from app.db.types import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """The row of a key; `is_new` where this request is the first, and its answer is still to be given."""

    row: IdempotencyKeyRow
    is_new: bool


def reserve(
    session: Session, key: str, *, method: str, path: str, request_hash: str, now: datetime | None = None
) -> Reserved:
    """Take the key, or give what was kept under it; `status_code` is None while the first request runs.

    Whoever finds another request hash in the row must refuse: the key was used for another request.
    """
    statement = (
        insert(session, IdempotencyKeyRow)
        .values(key=key, method=method, path=path, request_hash=request_hash, created_at=now or utc_now())
        .on_conflict_do_nothing()
        .returning(IdempotencyKeyRow.key)
    )
    while True:
        is_new = session.execute(statement).scalar_one_or_none() is not None
        row = session.get(IdempotencyKeyRow, key, populate_existing=True)
        # Another request can have released the key in between.
        if row is not None:
            return Reserved(row=row, is_new=is_new)


def complete(session: Session, key: str, *, status_code: int, response: Any) -> None:
    """Keep the answer of the request that took the key."""
    session.execute(
        update(IdempotencyKeyRow)
        .where(IdempotencyKeyRow.key == key)
        .values(status_code=status_code, response=response)
        .execution_options(synchronize_session=False)
    )


def release(session: Session, key: str) -> None:
    """Give the key back where the request failed, so that it can be repeated."""
    session.execute(
        delete(IdempotencyKeyRow)
        .where(IdempotencyKeyRow.key == key, IdempotencyKeyRow.status_code.is_(None))
        .execution_options(synchronize_session=False)
    )


def forget_old(session: Session, *, before: datetime) -> int:
    """Drop the keys taken before an instant; how many went."""
    statement = delete(IdempotencyKeyRow).where(IdempotencyKeyRow.created_at < before)
    rows = session.execute(
        statement.returning(IdempotencyKeyRow.key).execution_options(synchronize_session=False)
    )
    return len(rows.all())
