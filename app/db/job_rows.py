"""What both sides of the queue share: the states of a job, and how its row is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import Session

from app.db.tables import JobRow

JobStatus = Literal["todo", "doing", "succeeded", "failed", "cancelled"]
LIVE: tuple[JobStatus, ...] = ("todo", "doing")


def change(session: Session, where: Sequence[ColumnElement[bool]], values: Mapping[str, Any]) -> bool:
    """Update one job by its id and guards; whether it was there."""
    statement = (
        update(JobRow)
        .where(*where)
        .values(**values)
        .returning(JobRow.id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).scalar_one_or_none() is not None


def fresh(statement: Any) -> Any:
    """Rows as they are in the database now, even where the session has seen them before."""
    return statement.execution_options(populate_existing=True, synchronize_session=False)


def over(now: datetime) -> dict[str, Any]:
    """What a job that has ended looks like; the worker stays as a record."""
    return {"finished_at": now, "lease_expires_at": None}


def unheld() -> dict[str, Any]:
    return {"worker": None, "heartbeat_at": None, "lease_expires_at": None}
