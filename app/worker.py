"""The worker: claims jobs, keeps their lease alive, runs them, and lets indexes follow what changed.

Its work has two lanes. One takes documents in and lets the served indexes follow; the other builds, verifies
and mends index versions and keeps them tidy. A process has both beside each other, each with jobs and leases
of its own, so that a build of hours holds up no document.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal
from uuid import uuid4

from sqlalchemy.exc import OperationalError

from app import memory
from app.backup import links
from app.db import jobs, queue
from app.db.errors import DatabaseError
from app.db.queue import Released, RetryPolicy
from app.db.tables import JobRow
from app.documents.cancelling import CANCELLED, CANCELLED_DETAIL, note_failure
from app.documents.ingestion import OUT_OF_MEMORY, ingest
from app.documents.intake import INGEST
from app.errors import Busy, FootnoteError
from app.outages import DATABASE_UNAVAILABLE, STORAGE_FULL, STORAGE_MISSING, described, outage_of
from app.upkeep import repairing
from app.upkeep.upkeep import HANDLERS, Upkeep
from app.versions import abandoned, following
from app.versions.building import BuildCancelled, BuildStopped, Say
from indexing.errors import IndexingError
from indexing.files import checkpoint
from indexing.loaders import LoaderPool, LoadLimits

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services
    from app.settings import Settings

logger = logging.getLogger(__name__)

RETRY = RetryPolicy()
SAY_SECONDS = 0.5
"""A job says how far it is, and learns that it is cancelled, so often."""

POSTPONED_SECONDS = {STORAGE_FULL: 5.0, STORAGE_MISSING: 5.0, DATABASE_UNAVAILABLE: 1.0}
"""What could not be done for such a reason is tried again after so long."""
BUSY_SECONDS = 2.0
"""And what another had in its hands after so long."""

Lane = Literal["ingest", "upkeep"]
BOTH: Final[tuple[Lane, ...]] = ("ingest", "upkeep")


class Worker:
    """Works in one lane, or in both by turns. `run` works until `stop`; `drain` until nothing is due.

    `loaders` read the files, and stay the caller's to close; without them the worker has its own.
    """

    def __init__(
        self,
        services: Services,
        name: str | None = None,
        *,
        lanes: Sequence[Lane] = BOTH,
        loaders: LoaderPool | None = None,
    ) -> None:
        self.services = services
        self.lanes = lanes
        self._kinds = [*HANDLERS] * ("upkeep" in lanes) + [INGEST] * ("ingest" in lanes)
        self._upkeep = Upkeep(services)
        self.name = name or f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._stopping = threading.Event()
        self._held: dict[str, JobRow] = {}
        self._stopped_jobs: set[str] = set()
        self._lock = threading.Lock()
        self._own_loaders = loaders is None
        self._loaders = loaders or _loaders(services.settings)

    def run(self, *, prepare: bool = True, on_ready: Callable[[], None] = lambda: None) -> None:
        """Works until `stop` is called; a database that cannot be reached is waited for."""
        logger.info("worker started", extra={"action": "worker_started", "worker": self.name})
        with self._beating():
            if prepare:
                self.prepare()
            on_ready()
            while not self._stopping.is_set():
                if not self._safely(self.step) and not self._safely(self._keep_up):
                    self._stopping.wait(self.services.settings.worker.poll_seconds)
        logger.info("worker stopped", extra={"action": "worker_stopped", "worker": self.name})

    def drain(
        self, on_step: Callable[[], None] = lambda: None, until: Callable[[], bool] = lambda: True
    ) -> None:
        """Works until nothing is due and `until` says so: for a command that ingests by itself."""
        with self._beating():
            while not self._stopping.is_set():
                worked = self.step()
                on_step()
                if not worked:
                    if until():
                        break
                    self._stopping.wait(self.services.settings.worker.poll_seconds)

    def stop(self) -> None:
        """Asks the worker to stop after the batch in hand."""
        self._stopping.set()

    def close(self) -> None:
        """Gives back what is held, so that no one waits for a lease to end."""
        if self._own_loaders:
            self._loaders.close()
        with self.services.write() as session:
            self._note_released(session, queue.release_worker(session, self.name))

    def prepare(self) -> None:
        """Removes what killed processes have left, and makes served indexes anew that cannot be used."""
        self._safely(self._sweep)
        if not self._stopping.is_set():
            self._safely(lambda: bool(repairing.mend_served(self.services, self._go_on)))

    def step(self) -> bool:
        """Takes one batch, or lets the indexes follow; False when there was nothing to do."""
        batch = self._claim()
        if batch:
            self._run_batch(batch)
            return True
        if "ingest" not in self.lanes:
            return False
        behind = following.lagging(self.services)
        for version_id in behind:
            following.commit_pending(self.services, version_id)
        return bool(behind)

    def progress(self, jobs: Sequence[JobRow], note: str, done: int = 0, total: int | None = None) -> None:
        with self.services.write() as session:
            for job in jobs:
                queue.progress(session, self.name, job.id, done=done, total=total, note=note)

    def succeed(self, session: Session, jobs: Sequence[JobRow]) -> None:
        queue.succeed_all(session, self.name, [job.id for job in jobs])
        for job in jobs:
            self._let_go(job)

    def fail(self, session: Session, job: JobRow, code: str, detail: str, *, retry: bool) -> None:
        status = queue.fail(
            session, self.name, job.id, code=code, detail=detail, retry=RETRY if retry else None
        )
        if status == "failed":
            note_failure(session, job, code, detail)
        elif status == "cancelled":
            note_failure(session, job, CANCELLED, CANCELLED_DETAIL)
        self._let_go(job)
        logger.warning("job failed", extra={"action": "job_failed", "job": job.id, "code": code})

    def renew(self, session: Session, jobs: Sequence[JobRow]) -> None:
        """Prolongs the leases of jobs, as of the end of the session."""
        seconds = self.services.settings.worker.lease_seconds
        stopped = queue.heartbeat(session, self.name, [job.id for job in jobs], lease_seconds=seconds)
        with self._lock:
            self._stopped_jobs |= stopped

    def is_stopped(self, job: JobRow) -> bool:
        """Whether the job was cancelled, or its lease was lost; a cancelled one is recorded as such."""
        if job.id not in self._stopped_jobs:
            return False
        with self.services.write() as session:
            if queue.cancelled(session, self.name, job.id):
                note_failure(session, job, CANCELLED, CANCELLED_DETAIL)
        self._let_go(job)
        return True

    def _claim(self) -> Sequence[JobRow]:
        settings = self.services.settings.worker
        with self.services.read() as session:
            if not queue.anything_due(session, self._kinds):
                return []
        with self.services.write() as session:
            self._note_released(session, queue.release_expired(session))
            batch: Sequence[JobRow] = []
            if "upkeep" in self.lanes:
                batch = queue.claim(session, self.name, [*HANDLERS], lease_seconds=settings.lease_seconds)
            if "ingest" in self.lanes and not batch:
                batch = queue.claim(
                    session,
                    self.name,
                    [INGEST],
                    limit=settings.batch_documents,
                    max_bytes=settings.claimed_bytes,
                    lease_seconds=settings.lease_seconds,
                )
        if batch:
            checkpoint("job-claimed")
        with self._lock:
            self._held = {job.id: job for job in batch}
            self._stopped_jobs = set()
        return batch

    def _note_released(self, session: Session, released: Released) -> None:
        for job_id in released.failed:
            job = jobs.get(session, job_id)
            note_failure(session, job, job.error_code or queue.WORKER_LOST, job.error_detail or "")
        for job_id in released.cancelled:
            note_failure(session, jobs.get(session, job_id), CANCELLED, CANCELLED_DETAIL)

    def _run_batch(self, batch: Sequence[JobRow]) -> None:
        started = time.perf_counter()
        try:
            if batch[0].kind in HANDLERS:
                self._do(batch[0])
            else:
                ingest(self.services, self._loaders, self, batch)
        except Exception as error:
            # Whatever went wrong, the jobs still held must not wait for their lease: they are tried again.
            logger.exception("batch failed", extra={"action": "batch_failed", "n_jobs": len(batch)})
            outage = outage_of(error)
            if outage is not None:
                self._postpone(outage, described(error))
            else:
                code = _code_of(error)
                with self.services.write() as session:
                    for job in list(self._held.values()):
                        self.fail(session, job, code, described(error), retry=True)
        logger.info(
            "batch done",
            extra={
                "action": "batch_done",
                "n_jobs": len(batch),
                "seconds": round(time.perf_counter() - started, 2),
            },
        )

    def _postpone(self, code: str, detail: str) -> None:
        """Gives back what is held, as soon as the database takes that: a full disk, a database that could
        not be reached, or one who has what is needed, is no fault of the jobs."""
        seconds = POSTPONED_SECONDS.get(code, BUSY_SECONDS)
        while not self._stopping.is_set():
            try:
                with self.services.write() as session:
                    released = queue.postpone(
                        session, self.name, code=code, detail=detail, delay_seconds=seconds
                    )
                    self._note_released(session, released)
                break
            except OperationalError:
                logger.warning("jobs not given back yet", extra={"action": "postpone_failed", "code": code})
                self._stopping.wait(self.services.settings.worker.poll_seconds)
        with self._lock:
            self._held = {}

    def _do(self, job: JobRow) -> None:
        """Runs the handler of a job. One that is stopped is given back by `close`, for another to go on."""
        try:
            result = HANDLERS[job.kind](self.services, job, self._saying(job))
        except BuildStopped:
            return
        except BuildCancelled:
            with self.services.write() as session:
                queue.cancelled(session, self.name, job.id)
            self._let_go(job)
            return
        except Busy as error:
            # By a command, or by a worker whose lease has ended.
            self._postpone(error.code, str(error))
            return
        except (FootnoteError, DatabaseError) as error:
            with self.services.write() as session:
                self.fail(session, job, error.code, str(error), retry=False)
            return
        checkpoint("job-worked")
        with self.services.write() as session:
            queue.succeed(session, self.name, job.id, result=result)
        checkpoint("job-succeeded")
        self._let_go(job)

    def _saying(self, job: JobRow) -> Say:
        """Where a handler says how far it is; it ends the work that is to stop."""
        last = 0.0

        def say(stage: str, done: int, total: int) -> None:
            nonlocal last
            self._go_on(stage, done, total)
            now = time.monotonic()
            if now - last < SAY_SECONDS:
                return
            last = now
            with self.services.write() as session:
                queue.progress(session, self.name, job.id, done=done, total=total, note=stage)
                seconds = self.services.settings.worker.lease_seconds
                stopped = queue.heartbeat(session, self.name, [job.id], lease_seconds=seconds)
                is_ours = job.id in queue.held(session, self.name)
            if stopped and is_ours:
                raise BuildCancelled
            if stopped:
                self._let_go(job)  # the lease was lost: another goes on with it
                raise BuildStopped

        return say

    def _go_on(self, _stage: str, _done: int, _total: int) -> None:
        if self._stopping.is_set():
            raise BuildStopped

    def _let_go(self, job: JobRow) -> None:
        with self._lock:
            self._held.pop(job.id, None)

    def _sweep(self) -> bool:
        """Removes what killed processes have left."""
        with self.services.store.removing():
            self.services.store.sweep()
        links.sweep(self.services.store)
        return bool(abandoned.sweep(self.services))

    def _keep_up(self) -> bool:
        return "upkeep" in self.lanes and self._upkeep.step(self._stopping.is_set)

    def _safely(self, work: Callable[[], bool]) -> bool:
        """What the work says of itself; False where it failed, which is logged."""
        try:
            return work()
        except OperationalError:
            logger.exception("database not reachable", extra={"action": "database_error"})
        except BuildStopped:
            pass
        except Exception:
            logger.exception("step failed", extra={"action": "step_failed"})
        return False

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """A heartbeat until the work has ended, which is later than a stop is asked for; then closes."""
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(ended,), name="heartbeat", daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            self.close()

    def _beat(self, ended: threading.Event) -> None:
        """Keeps the leases of the jobs in hand; three beats fit in one lease."""
        seconds = self.services.settings.worker.lease_seconds
        while not ended.wait(seconds / 3):
            with self._lock:
                held = list(self._held)
            if not held:
                continue
            try:
                with self.services.write() as session:
                    stopped = queue.heartbeat(session, self.name, held, lease_seconds=seconds)
            except Exception:
                # The database is away, or memory is short: the next beat may get through.
                logger.exception("no heartbeat", extra={"action": "heartbeat_failed"})
                continue
            with self._lock:
                self._stopped_jobs |= stopped


def _code_of(error: Exception) -> str:
    if memory.is_shortage(error):
        return OUT_OF_MEMORY
    return error.code if isinstance(error, IndexingError) else "internal_error"


def _loaders(settings: Settings) -> LoaderPool:
    limits = settings.loader
    return LoaderPool(
        settings.worker.loaders,
        limits=LoadLimits(
            memory_bytes=limits.memory_bytes,
            seconds=limits.seconds,
            decompressed_bytes=limits.decompressed_bytes,
        ),
    )
