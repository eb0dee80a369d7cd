"""Jobs as users see them: put in, looked at, cancelled, tried again.

Put in: `enqueue` · `enqueue_all`. Steer: `cancel` · `retry`. Look: `get` · `live_jobs_of_document` ·
`n_live` · `list_page` · `counts` · `oldest_waiting_seconds`. How a worker takes and ends them is in
`app.db.queue`. The caller commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import func, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.dialects import in_batches, insert
from app.db.errors import JobNotCancellable, JobNotFound, JobNotRetryable
from app.db.job_rows import LIVE, JobStatus, change, fresh, over, unheld
from app.db.paging import Page, read_cursor, write_cursor
from app.db.tables import JobRow
from app.db.types import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job for a document, for `enqueue_all`."""

    collection_id: int
    document_id: int
    payload: Mapping[str, Any]
    dedup_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """The job that will do the work; `is_new` is False where a live job had the same dedup key."""

    job: JobRow
    is_new: bool


def enqueue(
    session: Session,
    kind: str,
    *,
    payload: Mapping[str, Any] | None = None,
    collection_id: int | None = None,
    document_id: int | None = None,
    dedup_key: str | None = None,
    priority: int = 0,
    max_attempts: int = 5,
    run_after: datetime | None = None,
    now: datetime | None = None,
) -> Enqueued:
    """Put a job in the queue, or give the live one with the same dedup key, unless that one is to stop.

    A lower priority number goes first.
    """
    now = now or utc_now()
    values = _new_values(
        kind,
        payload=payload or {},
        collection_id=collection_id,
        document_id=document_id,
        dedup_key=dedup_key,
        priority=priority,
        max_attempts=max_attempts,
        run_after=run_after or now,
        now=now,
    )
    statement = insert(session, JobRow).values(values).on_conflict_do_nothing().returning(JobRow)
    # The live job can end between the refused insert and the look at it; then there is room for ours.
    while True:
        job = session.scalars(statement).one_or_none()
        if job is not None:
            return Enqueued(job=job, is_new=True)
        # A job that is to stop will not do the work, and gives up its key.
        if change(session, [JobRow.dedup_key == dedup_key, *_STOPPING], {"dedup_key": None}):
            continue
        job = session.scalars(
            fresh(select(JobRow).where(JobRow.dedup_key == dedup_key, JobRow.status.in_(LIVE)))
        ).one_or_none()
        if job is not None:
            return Enqueued(job=job, is_new=False)


def enqueue_all(session: Session, kind: str, jobs: Sequence[NewJob], *, max_attempts: int = 5) -> None:
    """`enqueue` for many documents at once, to be done in the order given."""
    rows = []
    for job in jobs:
        now = utc_now()
        rows.append(
            _new_values(
                kind,
                payload=job.payload,
                collection_id=job.collection_id,
                document_id=job.document_id,
                dedup_key=job.dedup_key,
                priority=0,
                max_attempts=max_attempts,
                run_after=now,
                now=now,
            )
        )
    statement = insert(session, JobRow.__table__).on_conflict_do_nothing().returning(JobRow.dedup_key)
    for batch in in_batches(rows):
        placed = set(session.connection().execute(statement, batch).scalars())
        for row in batch:
            if row["dedup_key"] not in placed:
                again = ("payload", "collection_id", "document_id", "dedup_key", "max_attempts")
                enqueue(session, kind, **{name: row[name] for name in again})


def _new_values(
    kind: str,
    *,
    payload: Mapping[str, Any],
    collection_id: int | None,
    document_id: int | None,
    dedup_key: str | None,
    priority: int,
    max_attempts: int,
    run_after: datetime,
    now: datetime,
) -> dict[str, Any]:
    return {
        "id": uuid4().hex,
        "kind": kind,
        "payload": dict(payload),
        "collection_id": collection_id,
        "document_id": document_id,
        "dedup_key": dedup_key,
        "status": "todo",
        "priority": priority,
        "attempts": 0,
        "max_attempts": max_attempts,
        "run_after": run_after,
        "progress_done": 0,
        "cancel_requested": False,
        "created_at": now,
    }


def cancel(session: Session, job_id: str, *, now: datetime | None = None) -> JobRow:
    """Cancel a waiting job at once, or ask the worker of a running one to stop.

    Raises JobNotFound, and JobNotCancellable for one that has ended otherwise.
    """
    if not change(
        session,
        [JobRow.id == job_id, JobRow.status == "todo"],
        {"status": "cancelled", "cancel_requested": True, **over(now or utc_now())},
    ):
        change(session, [JobRow.id == job_id, JobRow.status == "doing"], {"cancel_requested": True})
    job = get(session, job_id)
    if not job.cancel_requested and job.status != "cancelled":
        raise JobNotCancellable(f"the job has {job.status}")
    return job


def retry(session: Session, job_id: str, *, now: datetime | None = None) -> JobRow:
    """Put a failed or cancelled job back in the queue with all its attempts.

    Where another live job has taken its dedup key, that one is given instead. Raises JobNotFound,
    JobNotRetryable.
    """
    now = now or utc_now()
    job = session.scalars(fresh(select(JobRow).where(JobRow.id == job_id).with_for_update())).one_or_none()
    if job is None:
        raise JobNotFound("there is no such job")
    if job.status not in ("failed", "cancelled"):
        raise JobNotRetryable(f"the job is {job.status}; only a failed or cancelled one can be tried again")
    try:
        # Alone in a savepoint: where a live job has the same dedup key, only this step is undone.
        with session.begin_nested():
            change(session, [JobRow.id == job_id], {**_AFRESH, "run_after": now})
    except IntegrityError:
        live = JobRow.status.in_(LIVE)
        twin: JobRow = session.scalars(
            fresh(select(JobRow).where(JobRow.dedup_key == job.dedup_key, live))
        ).one()
        return twin
    return get(session, job_id)


def get(session: Session, job_id: str) -> JobRow:
    """Raises JobNotFound."""
    job = session.get(JobRow, job_id, populate_existing=True)
    if job is None:
        raise JobNotFound("there is no such job")
    return job


def live_jobs_of_document(session: Session, document_id: int) -> Sequence[JobRow]:
    """The jobs of a document that wait or are in work, the oldest first."""
    statement = (
        select(JobRow)
        .where(JobRow.document_id == document_id, JobRow.status.in_(LIVE))
        .order_by(JobRow.created_at, JobRow.id)
    )
    found: Sequence[JobRow] = session.scalars(fresh(statement)).all()
    return found


def n_live(session: Session, document_ids: Iterable[int]) -> int:
    """How many jobs of the documents wait or are in work."""
    n_jobs = 0
    for batch in in_batches(sorted(set(document_ids))):
        statement = select(func.count()).select_from(JobRow)
        n_jobs += session.scalars(
            statement.where(JobRow.document_id.in_(batch), JobRow.status.in_(LIVE))
        ).one()
    return n_jobs


def list_page(
    session: Session,
    *,
    status: JobStatus | None = None,
    kind: str | None = None,
    collection_id: int | None = None,
    document_id: int | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[JobRow]:
    """Jobs, the newest first. Raises CursorError."""
    statement = select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(limit + 1)
    for column, value in (
        (JobRow.status, status),
        (JobRow.kind, kind),
        (JobRow.collection_id, collection_id),
        (JobRow.document_id, document_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if cursor is not None:
        created_at, job_id = read_cursor(cursor, str)
        statement = statement.where(tuple_(JobRow.created_at, JobRow.id) < tuple_(created_at, job_id))
    rows = session.scalars(statement).all()
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    return Page(items=rows[:limit], next_cursor=write_cursor(last.created_at, last.id) if last else None)


def counts(session: Session) -> dict[tuple[str, JobStatus], int]:
    """How many jobs there are by kind and status."""
    rows = session.execute(
        select(JobRow.kind, JobRow.status, func.count()).group_by(JobRow.kind, JobRow.status)
    )
    return {(kind, status): n_jobs for kind, status, n_jobs in rows}  # type: ignore[misc]


def oldest_waiting_seconds(
    session: Session, *, kind: str | None = None, now: datetime | None = None
) -> float:
    """How long the job that has been due for the longest has waited; 0 when none is due."""
    now = now or utc_now()
    statement = select(func.min(JobRow.run_after)).where(JobRow.status == "todo", JobRow.run_after <= now)
    if kind is not None:
        statement = statement.where(JobRow.kind == kind)
    since = session.scalar(statement)
    return (now - since).total_seconds() if since else 0.0


_STOPPING = (JobRow.status == "doing", JobRow.cancel_requested.is_(True))


_AFRESH: Mapping[str, Any] = {
    "status": "todo",
    "attempts": 0,
    "cancel_requested": False,
    "error_code": None,
    "error_detail": None,
    "finished_at": None,
    **unheld(),
}
