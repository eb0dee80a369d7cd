"""The job queue: a table, and statements that keep its promises.

Put in: `enqueue`. Work: `claim` · `heartbeat` · `progress` · `succeed` · `fail` · `release_worker`. Steer:
`cancel` · `retry` · `release_expired`. Look: `get` · `live_of_document` · `live_jobs_of_document` ·
`anything_due` · `list_page` · `counts` · `oldest_waiting_seconds`. The caller commits.

A claimed job belongs to its worker until the lease ends. Every statement of a worker names the worker and the
status `doing`, so one that lost its lease changes nothing and is told so. Handlers can be run twice: a job
whose worker died between the work and the record of it is done again.

    todo ──claim──▶ doing ──succeed──▶ succeeded
     ▲  ╲cancel       │ ╲──fail───────▶ failed      (permanent, or attempts used up)
     │   ▼            │  ╲─fail/cancel▶ cancelled   (cancellation was asked for)
     │  cancelled     │
     └──fail (retryable), lease expired, worker stopped
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    and_,
    case,
    exists,
    false,
    func,
    null,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from app.db.dialects import in_batches, insert
from app.db.errors import JobNotCancellable, JobNotFound, JobNotRetryable
from app.db.paging import Page, read_cursor, write_cursor
from app.db.tables import JobRow
from app.db.texts import storable
from app.db.types import utc_now

JobStatus = Literal["todo", "doing", "succeeded", "failed", "cancelled"]
LIVE: tuple[JobStatus, ...] = ("todo", "doing")
WORKER_LOST = "worker_lost"

# Any number that no other program on the same PostgreSQL database locks.
_CLAIM_LOCK = 7_033_915_264_018_771


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to try again: after `base · factorⁿ` seconds, n the attempts before this one, with some jitter.

    `jitter` is the greatest part of the delay that is taken off at random, so that jobs which failed together
    do not all come back together; a `seed` makes it repeatable.

    >>> [RetryPolicy(jitter=0).delay_seconds(attempt) for attempt in (1, 2, 3, 6)]
    [2.0, 8.0, 32.0, 600.0]
    """

    max_attempts: int = 5
    base_seconds: float = 2.0
    factor: float = 4.0
    max_seconds: float = 600.0
    jitter: float = 0.1
    seed: int | None = None

    def delay_seconds(self, attempt: int) -> float:
        """The wait after the given attempt, which counts from 1, has failed."""
        # The exponent is bounded because a float is: 4**600 is none.
        full = min(self.max_seconds, self.base_seconds * self.factor ** min(attempt - 1, 60))
        generator = random.Random() if self.seed is None else random.Random(f"{self.seed}/{attempt}")
        return full * (1 - self.jitter * generator.random())


NEVER = RetryPolicy(max_attempts=1)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What became of the jobs whose lease had ended: ids that wait again, failed, or were cancelled."""

    todo: tuple[str, ...]
    failed: tuple[str, ...]
    cancelled: tuple[str, ...]


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
        if _change(session, [JobRow.dedup_key == dedup_key, *_STOPPING], {"dedup_key": None}):
            continue
        job = session.scalars(
            _fresh(select(JobRow).where(JobRow.dedup_key == dedup_key, JobRow.status.in_(LIVE)))
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


def claim(
    session: Session,
    worker: str,
    kinds: Iterable[str],
    *,
    limit: int = 1,
    max_bytes: int | None = None,
    lease_seconds: float = 60.0,
    now: datetime | None = None,
) -> list[JobRow]:
    """Take up to `limit` jobs that are due, and count the attempt; first by priority, then by age.

    With `max_bytes`, no more than whose payloads' `n_bytes` together stay below it, but always one.

    Two jobs of one document are never in work at once, in one batch or in two workers. Commit at once: on
    PostgreSQL other claims wait for it.
    """
    now = now or utc_now()
    if session.get_bind().dialect.name == "postgresql":
        # SKIP LOCKED alone lets two workers take two jobs of one document, since neither sees the other's
        # claim.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLAIM_LOCK})
    # A common table expression: PostgreSQL may run a plain subquery with LIMIT more than once.
    picked = _due(now, tuple(kinds)).limit(limit).with_for_update(skip_locked=True).cte("picked")
    statement = (
        update(JobRow)
        .where(JobRow.id.in_(_within(picked, max_bytes)), JobRow.status == "todo")
        .values(
            status="doing",
            worker=worker,
            attempts=JobRow.attempts + 1,
            heartbeat_at=now,
            lease_expires_at=now + timedelta(seconds=lease_seconds),
            started_at=now,
            finished_at=None,
            progress_done=0,
            progress_total=None,
            progress_note=None,
        )
        .returning(JobRow)
    )
    claimed = session.scalars(_fresh(statement)).all()
    return sorted(claimed, key=lambda job: (job.priority, job.created_at, job.id))


def heartbeat(
    session: Session,
    worker: str,
    job_ids: Iterable[str],
    *,
    lease_seconds: float = 60.0,
    now: datetime | None = None,
) -> set[str]:
    """Prolong the leases, and give the ids to stop: cancellation was asked for, or the lease was lost."""
    now = now or utc_now()
    wanted = set(job_ids)
    kept: set[str] = set()
    for batch in in_batches(sorted(wanted)):
        statement = (
            update(JobRow)
            .where(JobRow.id.in_(batch), *_held_by(worker))
            .values(heartbeat_at=now, lease_expires_at=now + timedelta(seconds=lease_seconds))
            .returning(JobRow.id, JobRow.cancel_requested)
            .execution_options(synchronize_session=False)
        )
        kept |= {job_id for job_id, cancelled in session.execute(statement) if not cancelled}
    return wanted - kept


def progress(
    session: Session,
    worker: str,
    job_id: str,
    *,
    done: int,
    total: int | None = None,
    note: str | None = None,
) -> bool:
    """Note how far the work is; False when the job is no longer this worker's."""
    return _change(
        session,
        [JobRow.id == job_id, *_held_by(worker)],
        {"progress_done": done, "progress_total": total, "progress_note": storable(note) if note else note},
    )


def succeed(
    session: Session,
    worker: str,
    job_id: str,
    *,
    result: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> bool:
    """Record the end of the work; False when the job is no longer this worker's, and nothing is recorded."""
    values = {
        "status": "succeeded",
        "result": dict(result) if result is not None else None,
        "error_code": None,
        "error_detail": None,
        **_over(now or utc_now()),
    }
    return _change(session, [JobRow.id == job_id, *_held_by(worker)], values)


def succeed_all(
    session: Session, worker: str, job_ids: Iterable[str], *, now: datetime | None = None
) -> set[str]:
    """Record the end of many; gives the ids it was done for: those that are still this worker's."""
    done: set[str] = set()
    for batch in in_batches(sorted(set(job_ids))):
        statement = (
            update(JobRow)
            .where(JobRow.id.in_(batch), *_held_by(worker))
            .values(status="succeeded", error_code=None, error_detail=None, **_over(now or utc_now()))
            .returning(JobRow.id)
            .execution_options(synchronize_session=False)
        )
        done.update(session.scalars(statement))
    return done


def fail(
    session: Session,
    worker: str,
    job_id: str,
    *,
    code: str,
    detail: str,
    retry: RetryPolicy | None = None,
    now: datetime | None = None,
) -> JobStatus | None:
    """Record a failure, and give the new status; None when the job is no longer this worker's.

    With a `retry` policy the job goes back to `todo` after its delay, until the attempts are used up (the
    policy's or the job's own, whichever is less). Without one the failure is final. A job that was to be
    cancelled is cancelled.
    """
    now = now or utc_now()
    job = session.scalars(
        _fresh(select(JobRow).where(JobRow.id == job_id, *_held_by(worker)).with_for_update())
    ).one_or_none()
    if job is None:
        return None
    status: JobStatus = "failed"
    values: dict[str, Any] = {"error_code": code, "error_detail": storable(detail)}
    if job.cancel_requested:
        status = "cancelled"
    elif retry is not None and job.attempts < min(job.max_attempts, retry.max_attempts):
        status = "todo"
    if status == "todo":
        assert retry is not None
        delay = timedelta(seconds=retry.delay_seconds(job.attempts))
        values |= {"run_after": now + delay, **_unheld()}
    else:
        values |= _over(now)
    return (
        status
        if _change(session, [JobRow.id == job_id, *_held_by(worker)], values | {"status": status})
        else None
    )


def cancelled(session: Session, worker: str, job_id: str, *, now: datetime | None = None) -> bool:
    """Record that the work was stopped as asked; False when the job is no longer this worker's."""
    return _change(
        session,
        [JobRow.id == job_id, *_held_by(worker)],
        {"status": "cancelled", "cancel_requested": True, **_over(now or utc_now())},
    )


def cancel(session: Session, job_id: str, *, now: datetime | None = None) -> JobRow:
    """Cancel a waiting job at once, or ask the worker of a running one to stop.

    Raises JobNotFound, and JobNotCancellable for one that has ended otherwise.
    """
    if not _change(
        session,
        [JobRow.id == job_id, JobRow.status == "todo"],
        {"status": "cancelled", "cancel_requested": True, **_over(now or utc_now())},
    ):
        _change(session, [JobRow.id == job_id, JobRow.status == "doing"], {"cancel_requested": True})
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
    job = session.scalars(_fresh(select(JobRow).where(JobRow.id == job_id).with_for_update())).one_or_none()
    if job is None:
        raise JobNotFound("there is no such job")
    if job.status not in ("failed", "cancelled"):
        raise JobNotRetryable(f"the job is {job.status}; only a failed or cancelled one can be tried again")
    try:
        # Alone in a savepoint: where a live job has the same dedup key, only this step is undone.
        with session.begin_nested():
            _change(session, [JobRow.id == job_id], {**_AFRESH, "run_after": now})
    except IntegrityError:
        live = JobRow.status.in_(LIVE)
        twin: JobRow = session.scalars(
            _fresh(select(JobRow).where(JobRow.dedup_key == job.dedup_key, live))
        ).one()
        return twin
    return get(session, job_id)


def release_expired(session: Session, *, now: datetime | None = None) -> Released:
    """Take back the jobs whose lease has ended: to `todo`, or where attempts are used up `worker_lost`."""
    now = now or utc_now()
    used_up = JobRow.attempts >= JobRow.max_attempts
    lost = {"error_code": WORKER_LOST, "error_detail": "the worker stopped giving signs of life"}
    return _give_back(session, JobRow.lease_expires_at < now, used_up, lost, now)


def release_worker(session: Session, worker: str, *, now: datetime | None = None) -> Released:
    """Give back what a worker holds when it stops in good order; the attempts do not count."""
    return _give_back(
        session, JobRow.worker == worker, false(), {}, now or utc_now(), attempts=JobRow.attempts - 1
    )


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
    found: Sequence[JobRow] = session.scalars(_fresh(statement)).all()
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


def live_of_document(session: Session, document_id: int) -> JobRow | None:
    """The newest job of a document that waits or is in work."""
    live = live_jobs_of_document(session, document_id)
    return live[-1] if live else None


def anything_due(session: Session, *, now: datetime | None = None) -> bool:
    """Whether a worker may find something: a job that is due, or one whose lease has ended."""
    now = now or utc_now()
    due = and_(JobRow.status == "todo", JobRow.run_after <= now)
    lost = and_(JobRow.status == "doing", JobRow.lease_expires_at < now)
    return session.execute(select(JobRow.id).where(or_(due, lost)).limit(1)).first() is not None


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


def _due(now: datetime, kinds: Sequence[str]) -> Select[Any]:
    """What can be claimed, in order; of each document only the first job, and none while one is in work."""
    other = aliased(JobRow)
    before = and_(
        other.status == "todo",
        other.run_after <= now,
        other.kind.in_(kinds),
        tuple_(other.priority, other.created_at, other.id)
        < tuple_(JobRow.priority, JobRow.created_at, JobRow.id),
    )
    busy = exists().where(other.document_id == JobRow.document_id, or_(other.status == "doing", before))
    n_bytes = func.coalesce(JobRow.payload["n_bytes"].as_integer(), 0).label("n_bytes")
    return (
        select(JobRow.id, JobRow.priority, JobRow.created_at, n_bytes)
        .where(JobRow.status == "todo", JobRow.run_after <= now, JobRow.kind.in_(kinds), ~busy)
        .order_by(JobRow.priority, JobRow.created_at, JobRow.id)
    )


def _within(picked: CTE, max_bytes: int | None) -> Select[Any]:
    """The ids of the picked jobs, as many as stay together below `max_bytes`, and the first in any case."""
    if max_bytes is None:
        return select(picked.c.id)
    order = (picked.c.priority, picked.c.created_at, picked.c.id)
    weighed = select(
        picked.c.id,
        func.sum(picked.c.n_bytes).over(order_by=order).label("n_bytes"),
        func.row_number().over(order_by=order).label("position"),
    ).subquery()
    return select(weighed.c.id).where(or_(weighed.c.n_bytes <= max_bytes, weighed.c.position == 1))


def _give_back(
    session: Session,
    which: ColumnElement[bool],
    used_up: ColumnElement[bool],
    lost: Mapping[str, str],
    now: datetime,
    **others: Any,
) -> Released:
    """Return `doing` jobs to the queue, but cancel those that were to be, and fail those that are used up."""
    asked = JobRow.cancel_requested
    ended = or_(asked, used_up)
    # What another transaction holds at this moment, a heartbeat or an end, is not to be taken back.
    held = select(JobRow.id).where(JobRow.status == "doing", which).with_for_update(skip_locked=True)
    statement = (
        update(JobRow)
        .where(JobRow.id.in_(select(held.cte("held").c.id)), JobRow.status == "doing")
        .values(
            status=case((asked, "cancelled"), (used_up, "failed"), else_="todo"),
            run_after=now,
            finished_at=case((ended, now), else_=null()),
            worker=case((ended, JobRow.worker), else_=null()),
            heartbeat_at=case((ended, JobRow.heartbeat_at), else_=null()),
            lease_expires_at=None,
            **lost,
            **others,
        )
        .returning(JobRow.id, JobRow.status)
        .execution_options(synchronize_session=False)
    )
    rows = session.execute(statement).all()
    by_status = {
        status: tuple(sorted(job_id for job_id, ended_as in rows if ended_as == status))
        for status in ("todo", "failed", "cancelled")
    }
    return Released(**by_status)


def _held_by(worker: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (JobRow.worker == worker, JobRow.status == "doing")


def _over(now: datetime) -> dict[str, Any]:
    """What a job that has ended looks like; the worker stays as a record."""
    return {"finished_at": now, "lease_expires_at": None}


def _unheld() -> dict[str, Any]:
    return {"worker": None, "heartbeat_at": None, "lease_expires_at": None}


_STOPPING = (JobRow.status == "doing", JobRow.cancel_requested.is_(True))

_AFRESH: Mapping[str, Any] = {
    "status": "todo",
    "attempts": 0,
    "cancel_requested": False,
    "error_code": None,
    "error_detail": None,
    "finished_at": None,
    **_unheld(),
}


def _change(session: Session, where: Sequence[ColumnElement[bool]], values: Mapping[str, Any]) -> bool:
    """Update one job by its id and guards; whether it was there."""
    statement = (
        update(JobRow)
        .where(*where)
        .values(**values)
        .returning(JobRow.id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).scalar_one_or_none() is not None


def _fresh(statement: Any) -> Any:
    """Rows as they are in the database now, even where the session has seen them before."""
    return statement.execution_options(populate_existing=True, synchronize_session=False)
