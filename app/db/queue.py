"""The worker's side of the job queue: statements that keep its promises.

`claim` · `heartbeat` · `held` · `in_hand` · `progress` · `succeed` · `succeed_all` · `fail` · `cancelled` ·
`postpone` · `release_worker` · `release_expired` · `anything_due`. What users do with jobs is in
`app.db.jobs`. The caller commits.

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
from typing import Any

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
from sqlalchemy.orm import Session, aliased
from sqlalchemy.orm.util import AliasedClass

from app.db.dialects import in_batches
from app.db.job_rows import JobStatus, change, fresh, over, unheld
from app.db.tables import JobRow
from app.db.texts import storable
from app.db.types import utc_now

WORKER_LOST = "worker_lost"
CLOCK_SKEW_SECONDS = 60.0
"""What bears a time so far ahead was written before the clock was set back. A worker that lives renews its
lease by the new time, or is told that it has lost it; the work is done again, and not twice."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What became of the jobs whose lease had ended: ids that wait again, failed, or were cancelled."""

    todo: tuple[str, ...]
    failed: tuple[str, ...]
    cancelled: tuple[str, ...]


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
    claimed = session.scalars(fresh(statement)).all()
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


def held(session: Session, worker: str) -> set[str]:
    """The ids of the jobs that are a worker's, those that are to stop among them."""
    return set(session.scalars(select(JobRow.id).where(*_held_by(worker))))


def in_hand(session: Session, document_ids: Iterable[int], *, now: datetime | None = None) -> set[int]:
    """Those of the documents that a worker has in hand, as long as its lease runs."""
    found: set[int] = set()
    for batch in in_batches(sorted(set(document_ids))):
        statement = select(JobRow.document_id).where(JobRow.document_id.in_(batch), JobRow.status == "doing")
        found.update(
            key for key in session.scalars(statement.where(~_is_lost(now or utc_now()))) if key is not None
        )
    return found


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
    return change(
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
        **over(now or utc_now()),
    }
    return change(session, [JobRow.id == job_id, *_held_by(worker)], values)


def succeed_all(
    session: Session, worker: str, job_ids: Iterable[str], *, now: datetime | None = None
) -> set[str]:
    """Record the end of many; gives the ids it was done for: those that are still this worker's."""
    done: set[str] = set()
    for batch in in_batches(sorted(set(job_ids))):
        statement = (
            update(JobRow)
            .where(JobRow.id.in_(batch), *_held_by(worker))
            .values(status="succeeded", error_code=None, error_detail=None, **over(now or utc_now()))
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
        fresh(select(JobRow).where(JobRow.id == job_id, *_held_by(worker)).with_for_update())
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
        values |= {"run_after": now + delay, **unheld()}
    else:
        values |= over(now)
    return (
        status
        if change(session, [JobRow.id == job_id, *_held_by(worker)], values | {"status": status})
        else None
    )


def cancelled(session: Session, worker: str, job_id: str, *, now: datetime | None = None) -> bool:
    """Record that the work was stopped as asked; False when the job is no longer this worker's."""
    return change(
        session,
        [JobRow.id == job_id, *_held_by(worker)],
        {"status": "cancelled", "cancel_requested": True, **over(now or utc_now())},
    )


def release_expired(session: Session, *, now: datetime | None = None) -> Released:
    """Take back the jobs whose lease has ended: to `todo`, or where attempts are used up `worker_lost`."""
    now = now or utc_now()
    used_up = JobRow.attempts >= JobRow.max_attempts
    lost = {"error_code": WORKER_LOST, "error_detail": "the worker stopped giving signs of life"}
    return _give_back(session, _is_lost(now), used_up, lost, now)


def release_worker(session: Session, worker: str, *, now: datetime | None = None) -> Released:
    """Give back what a worker holds when it stops in good order; the attempts do not count."""
    return _give_back(
        session, JobRow.worker == worker, false(), {}, now or utc_now(), attempts=JobRow.attempts - 1
    )


def postpone(
    session: Session,
    worker: str,
    *,
    code: str,
    detail: str,
    delay_seconds: float,
    now: datetime | None = None,
) -> Released:
    """Give back what a worker holds until later, because of what is no fault of the jobs; the attempts do not
    count.
    """
    now = now or utc_now()
    return _give_back(
        session,
        JobRow.worker == worker,
        false(),
        {"error_code": code, "error_detail": detail},
        now,
        run_after=now + timedelta(seconds=delay_seconds),
        attempts=JobRow.attempts - 1,
    )


def anything_due(
    session: Session, kinds: Iterable[str] | None = None, *, now: datetime | None = None
) -> bool:
    """Whether a worker may find something: a job of its kinds that is due, or one whose lease has ended."""
    now = now or utc_now()
    due = and_(JobRow.status == "todo", _may_run(JobRow, now))
    if kinds is not None:
        due = and_(due, JobRow.kind.in_(sorted(kinds)))
    lost = and_(JobRow.status == "doing", _is_lost(now))
    return session.execute(select(JobRow.id).where(or_(due, lost)).limit(1)).first() is not None


def _due(now: datetime, kinds: Sequence[str]) -> Select[Any]:
    """What can be claimed, in order; of each document only the first job, and none while one is in work."""
    other = aliased(JobRow)
    before = and_(
        other.status == "todo",
        _may_run(other, now),
        other.kind.in_(kinds),
        tuple_(other.priority, other.created_at, other.id)
        < tuple_(JobRow.priority, JobRow.created_at, JobRow.id),
    )
    busy = exists().where(other.document_id == JobRow.document_id, or_(other.status == "doing", before))
    n_bytes = func.coalesce(JobRow.payload["n_bytes"].as_integer(), 0).label("n_bytes")
    return (
        select(JobRow.id, JobRow.priority, JobRow.created_at, n_bytes)
        .where(JobRow.status == "todo", _may_run(JobRow, now), JobRow.kind.in_(kinds), ~busy)
        .order_by(JobRow.priority, JobRow.created_at, JobRow.id)
    )


def _may_run(row: type[JobRow] | AliasedClass[JobRow], now: datetime) -> ColumnElement[bool]:
    """Whether the time of a job has come; also where the clock was set back after the job was touched."""
    future = now + timedelta(seconds=CLOCK_SKEW_SECONDS)
    return or_(row.run_after <= now, row.created_at > future, row.started_at > future)


def _is_lost(now: datetime) -> ColumnElement[bool]:
    """Whether a lease has ended; also one that the clock was set back from, whose end may be far away."""
    future = now + timedelta(seconds=CLOCK_SKEW_SECONDS)
    return or_(JobRow.lease_expires_at < now, JobRow.heartbeat_at > future)


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
    run_after: datetime | None = None,
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
            run_after=run_after or now,
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
