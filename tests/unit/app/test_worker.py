"""The worker: what fails is tried again, what was cancelled is not served, what is held is given back."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from app.db import batches, documents, jobs, queue, versions
from app.db.tables import DocumentRow, JobRow, VectorRow
from app.db.types import utc_now
from app.documents import cancelling, ingestion, intake
from app.services import Services, open_services
from app.settings import WorkerSettings
from app.upkeep.upkeep import BUILD
from app.versions import following, preparing
from app.worker import Worker
from indexing.errors import EncoderError
from tests.encoders import CountingEncoder
from tests.service import settings_for, work
from tests.unit.app.texts import PAGES, collection_id, ingest, sources, submit

LEASE_SECONDS = 1.5  # three heartbeats fit in, on a busy machine too


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
def open_with(home: Path, encoder: CountingEncoder) -> Iterator[Callable[..., Services]]:
    """Opens services with settings of the worker."""
    with ExitStack() as stack:

        def opened(**fields: float) -> Services:
            worker = WorkerSettings(loaders=1, poll_seconds=0.02, **fields)
            settings = settings_for(home, "", worker=worker)
            return stack.enter_context(open_services(settings, load=lambda _spec, _dir: encoder))

        yield opened


@pytest.fixture
def services(open_with: Callable[..., Services]) -> Services:
    return open_with(lease_seconds=LEASE_SECONDS)


def job_of(services: Services, accepted: intake.Accepted) -> JobRow:
    assert accepted.job is not None
    with services.read() as session:
        return jobs.get(session, accepted.job.id)


def document_of(services: Services, accepted: intake.Accepted) -> DocumentRow:
    with services.read() as session:
        return documents.get(session, accepted.document.id)


@contextmanager
def working(worker: Worker) -> Iterator[threading.Thread]:
    """The worker drains in a thread; at the end of the block it has ended."""
    thread = threading.Thread(target=worker.drain)
    thread.start()
    try:
        yield thread
    finally:
        worker.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EncoderError("the model is broken"), "encoder_error"),
        (RuntimeError("out of memory"), "internal_error"),
    ],
    ids=["of a known kind", "unexpected"],
)
def test_a_batch_that_fails_is_tried_again_later(
    services: Services, encoder: CountingEncoder, error: Exception, code: str
) -> None:
    def fail() -> None:
        raise error

    accepted = [submit(services, source, text) for source, text in PAGES.items()]
    encoder.hook = fail
    work(services)
    for item in accepted:
        job = job_of(services, item)
        assert (job.status, job.attempts, job.error_code) == ("todo", 1, code)
        assert str(error) in (job.error_detail or "")
        assert job.run_after > utc_now() + timedelta(seconds=1), "not at once"
        assert document_of(services, item).status in ("pending", "processing")
    assert sources(services, "pot") == []
    encoder.hook = lambda: None
    hurry(services)
    work(services)
    assert {job_of(services, item).status for item in accepted} == {"succeeded"}
    assert sources(services, "pot") == ["tea.md", *[s for s in sources(services, "pot") if s != "tea.md"]]


def hurry(services: Services) -> None:
    """Lets the time pass that a job waits before it is tried again."""
    with services.write() as session:
        session.execute(update(JobRow).values(run_after=utc_now()))


def test_when_the_attempts_are_used_up_the_document_has_failed(
    open_with: Callable[..., Services], encoder: CountingEncoder
) -> None:
    def fail() -> None:
        raise EncoderError("the model is broken")

    services = open_with(max_attempts=2)
    accepted = submit(services, "tea.md", PAGES["tea.md"])
    encoder.hook = fail
    work(services)
    hurry(services)
    work(services)
    job, document = job_of(services, accepted), document_of(services, accepted)
    assert (job.status, job.attempts, job.error_code) == ("failed", 2, "encoder_error")
    assert (document.status, document.error_code) == ("failed", "encoder_error")


def test_a_job_cancelled_in_work_leaves_its_document_unserved_and_the_others_ready(
    services: Services, encoder: CountingEncoder
) -> None:
    tea, leases = (submit(services, source, PAGES[source]) for source in ("tea.md", "leases.md"))
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait(30)

    encoder.hook = wait
    worker = Worker(services)
    with working(worker) as thread:
        assert begun.wait(30)
        with services.write() as session:
            jobs.cancel(session, job_of(services, tea).id)
        assert job_of(services, tea).status == "doing", "it is the worker who stops"
        time.sleep(LEASE_SECONDS)  # more than a heartbeat: the worker learns of it
        go_on.set()
        thread.join(30)
    assert job_of(services, tea).status == "cancelled"
    assert job_of(services, leases).status == "succeeded"
    assert "tea.md" not in sources(services, "warm the pot")
    assert sources(services, "lease") == ["leases.md"]
    assert document_of(services, tea).revision == 0
    assert document_of(services, tea).status != "processing", "no one works on it"


def begun_and_cancelled(services: Services, worker: str) -> intake.Accepted:
    """A document that a worker was about when its job was cancelled."""
    accepted = submit(services, "tea.md", PAGES["tea.md"])
    with services.write() as session:
        batch = queue.claim(session, worker, [intake.INGEST], lease_seconds=LEASE_SECONDS)
        batches.begin(session, {accepted.document.id: 1})
        cancelling.cancel(session, batch[0].id)
    assert document_of(services, accepted).status == "processing"
    return accepted


def assert_cancelled(services: Services, accepted: intake.Accepted) -> None:
    document = document_of(services, accepted)
    assert job_of(services, accepted).status == "cancelled"
    assert (document.status, document.error_code) == ("failed", "cancelled"), "no one works on it"


def test_a_job_cancelled_while_its_worker_was_killed_leaves_its_document_failed(services: Services) -> None:
    accepted = begun_and_cancelled(services, "killed")
    time.sleep(1.1 * LEASE_SECONDS)
    work(services)
    assert_cancelled(services, accepted)
    with services.write() as session:
        cancelling.retry(session, job_of(services, accepted).id)
    work(services)
    assert document_of(services, accepted).status == "ready"


def test_a_cancelled_job_given_back_by_a_worker_that_stops_leaves_its_document_failed(
    services: Services,
) -> None:
    accepted = begun_and_cancelled(services, "stopping")
    Worker(services, name="stopping").close()
    assert_cancelled(services, accepted)


def test_a_cancelled_job_that_fails_leaves_its_document_failed(
    services: Services, encoder: CountingEncoder
) -> None:
    accepted = submit(services, "tea.md", PAGES["tea.md"])

    def cancel_and_fail() -> None:
        with services.write() as session:
            cancelling.cancel(session, job_of(services, accepted).id)
        raise EncoderError("the model is broken")

    encoder.hook = cancel_and_fail
    work(services)
    assert_cancelled(services, accepted)


def test_retrying_a_cancelled_job_that_was_overtaken_leaves_its_document_ready(services: Services) -> None:
    accepted = submit(services, "tea.md", PAGES["tea.md"])
    with services.write() as session:
        cancelling.cancel(session, job_of(services, accepted).id)
    submit(services, "tea.md", PAGES["tea.md"])
    work(services)
    with services.write() as session:
        cancelling.retry(session, job_of(services, accepted).id)
    work(services)
    assert document_of(services, accepted).status == "ready"


def test_cancelling_stops_the_encoding_and_only_of_what_was_cancelled(
    services: Services, encoder: CountingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "TEXTS_A_SAVE", 1)
    monkeypatch.setattr(ingestion, "TEXTS_A_SAVE", 1)
    long = "\n\n".join(f"# Part {n}\n\n" + f"Of matter {n} much is said here. " * 60 for n in range(20))
    book, tea = submit(services, "book.md", long), submit(services, "tea.md", PAGES["tea.md"])
    parts: list[int] = []

    def cancel_at_the_third() -> None:
        parts.append(1)
        if len(parts) == 3:
            with services.write() as session:
                cancelling.cancel(session, job_of(services, book).id)
            time.sleep(LEASE_SECONDS)  # more than a heartbeat: the worker learns of it

    encoder.hook = cancel_at_the_third
    work(services)
    assert 3 < len(parts) < 8, "the rest of the book is not encoded, but the other document is"
    assert_cancelled(services, book)
    assert job_of(services, tea).status == "succeeded"
    assert sources(services, "pot") == ["tea.md"]


def test_the_lease_of_a_long_step_is_kept(services: Services, encoder: CountingEncoder) -> None:
    accepted = submit(services, "tea.md", PAGES["tea.md"])
    encoder.hook = lambda: time.sleep(2.5 * LEASE_SECONDS)
    with closing(Worker(services)) as other, working(Worker(services)):
        for _ in range(10):
            time.sleep(LEASE_SECONDS / 5)
            assert not other.step() or job_of(services, accepted).status == "succeeded"
    assert job_of(services, accepted).attempts == 1


def test_a_worker_that_is_to_stop_keeps_the_lease_of_the_batch_in_hand(
    services: Services, encoder: CountingEncoder
) -> None:
    accepted = submit(services, "tea.md", PAGES["tea.md"])
    worker, leases = Worker(services), []

    def stop() -> None:
        encoder.hook = lambda: None
        worker.stop()
        time.sleep(1.5 * LEASE_SECONDS)
        leases.append(job_of(services, accepted).lease_expires_at)

    encoder.hook = stop
    worker.run()
    (lease,) = leases
    job = job_of(services, accepted)
    assert (job.status, job.attempts) == ("succeeded", 1)
    assert lease is not None
    assert lease > job.finished_at - timedelta(seconds=LEASE_SECONDS / 2), "the lease ended during the work"


def test_a_heartbeat_that_failed_for_want_of_memory_is_not_the_last(
    services: Services, encoder: CountingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = submit(services, "tea.md", PAGES["tea.md"])
    beats: list[int] = []
    beat = queue.heartbeat

    def short_at_first(*args: Any, **options: Any) -> Any:
        beats.append(1)
        if len(beats) == 1:
            raise MemoryError
        return beat(*args, **options)

    def wait() -> None:
        encoder.hook = lambda: None
        monkeypatch.setattr(queue, "heartbeat", short_at_first)
        time.sleep(LEASE_SECONDS)

    encoder.hook = wait
    Worker(services).drain()
    assert len(beats) > 1
    assert (job_of(services, accepted).status, job_of(services, accepted).attempts) == ("succeeded", 1)


def test_a_worker_that_lost_its_lease_neither_publishes_nor_fails(
    services: Services, encoder: CountingEncoder
) -> None:
    accepted = submit(services, "tea.md", PAGES["tea.md"])
    slow = Worker(services, name="slow")

    def lose() -> None:
        encoder.hook = lambda: None
        with services.write() as session:
            queue.release_expired(session, now=utc_now() + timedelta(hours=1))
        time.sleep(LEASE_SECONDS)  # more than a heartbeat: the worker learns of it
        slow.stop()

    encoder.hook = lose
    slow.run()
    job = job_of(services, accepted)
    assert (job.status, job.worker) == ("todo", None)
    assert sources(services, "pot") == []
    hurry(services)
    Worker(services, name="quick").drain()
    assert job_of(services, accepted).status == "succeeded"
    assert sources(services, "pot") == ["tea.md"]


def test_draining_ends_when_nothing_is_due(services: Services) -> None:
    work(services)
    steps: list[int] = []
    submit(services, "tea.md", PAGES["tea.md"])
    Worker(services).drain(on_step=lambda: steps.append(1))
    assert len(steps) >= 2, "it is asked after each step, also after the last one"


def test_draining_waits_until_it_is_told_that_it_may_end(services: Services) -> None:
    asked: list[int] = []

    def until() -> bool:
        asked.append(1)
        if len(asked) == 2:
            submit(services, "tea.md", PAGES["tea.md"])
        return len(asked) == 3

    Worker(services).drain(until=until)
    assert sources(services, "pot") == ["tea.md"]


def test_a_stopped_worker_finishes_the_batch_in_hand(services: Services, encoder: CountingEncoder) -> None:
    accepted = submit(services, "tea.md", PAGES["tea.md"])
    worker = Worker(services)
    encoder.hook = worker.stop
    worker.run()
    assert job_of(services, accepted).status == "succeeded"


def test_a_deleted_document_is_taken_out_of_the_index_by_an_idle_worker(services: Services) -> None:
    ids = ingest(services, PAGES)
    intake.delete(services, ids["tea.md"])
    worker = Worker(services)
    assert worker.step()
    assert not worker.step()
    worker.close()


def test_a_document_deleted_in_work_is_not_served(services: Services, encoder: CountingEncoder) -> None:
    accepted = submit(services, "tea.md", PAGES["tea.md"])
    submit(services, "leases.md", PAGES["leases.md"])

    def delete_once() -> None:
        encoder.hook = lambda: None
        intake.delete(services, accepted.document.id)

    encoder.hook = delete_once
    work(services)
    assert sources(services, "pot") == sources(services, "lease") == ["leases.md"]
    assert job_of(services, accepted).status in ("succeeded", "cancelled")
    assert not services.store.path(accepted.document.content_hash).exists()


def test_a_build_is_a_job(services: Services) -> None:
    ingest(services, PAGES)
    with services.write() as session:
        job = jobs.enqueue(session, BUILD, collection_id=collection_id(services)).job
    work(services)
    with services.read() as session:
        done = jobs.get(session, job.id)
        active = versions.active(session, collection_id(services))
    assert done.status == "succeeded"
    assert active is not None
    assert done.result is not None
    assert done.result["index_version"] == active.id
    assert sources(services, "pot")[0] == "tea.md"


def test_a_build_without_memory_says_so(services: Services, encoder: CountingEncoder) -> None:
    def fail() -> None:
        raise MemoryError

    ingest(services, PAGES)
    with services.write() as session:
        session.execute(delete(VectorRow))
        job = jobs.enqueue(session, BUILD, collection_id=collection_id(services)).job
    encoder.hook = fail
    work(services)
    with services.read() as session:
        assert jobs.get(session, job.id).error_code == "out_of_memory"


def test_a_database_that_fails_for_a_while_is_waited_for(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    worker, real, failures = Worker(services), following.lagging, iter(range(3))

    def lagging(given: Services) -> list[str]:
        if next(failures, None) is not None:
            raise OperationalError("SELECT", {}, Exception("connection refused"))
        worker.stop()
        return real(given)

    monkeypatch.setattr(following, "lagging", lagging)
    worker.run()
    assert next(failures, None) is None


def test_a_worker_ended_by_a_signal_ends_well_and_gives_its_jobs_back(home: Path, services: Services) -> None:
    accepted = [submit(services, f"{n}.md", f"Text number {n}.") for n in range(3)]
    script = (
        "import functools, sys, time\n"
        "import app.cli, app.cli.serve as serve\n"
        "from app.services import open_services\n"
        "from indexing.encoding.fake import WordEncoder\n"
        "class Slow(WordEncoder):\n"
        "    def encode_documents(self, *args, **options):\n"
        "        print('working', flush=True)\n"
        "        time.sleep(0.5)\n"
        "        return super().encode_documents(*args, **options)\n"
        "serve.open_services = functools.partial(open_services, load=lambda *_: Slow())\n"
        "sys.argv[0] = 'footnote'\n"
        "app.cli.main()\n"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "FOOTNOTE_WORKER_BATCH_DOCUMENTS": "1",
        "FOOTNOTE_WORKER_LOADERS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", script, "worker", "--home", str(home)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    process.stdout.close()
    statuses = sorted(job_of(services, item).status for item in accepted)
    assert statuses == ["succeeded", "todo", "todo"], "the batch in hand was finished, the others wait"
    assert all(
        job_of(services, item).worker is None for item in accepted if job_of(services, item).status == "todo"
    )


def test_a_transaction_longer_than_a_lease_ends_with_a_fresh_one(
    open_with: Callable[..., Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = open_with(lease_seconds=0.3)
    accepted = submit(services, "tea.md", PAGES["tea.md"])
    save, left = batches.save, list[datetime | None]()

    def slow(*args: object, **named: object) -> batches.Saved:
        time.sleep(0.5)
        return save(*args, **named)  # type: ignore[arg-type]

    def commit_pending(*_: object) -> int:
        left.append(job_of(services, accepted).lease_expires_at)
        return 0

    monkeypatch.setattr(batches, "save", slow)
    monkeypatch.setattr(following, "commit_pending", commit_pending)
    begun = utc_now()
    with closing(Worker(services)) as worker:
        worker.step()  # by itself, so that no heartbeat helps
    assert left[0] is not None
    assert left[0] > begun + timedelta(seconds=0.7), "the lease ends a whole one after the transaction"
