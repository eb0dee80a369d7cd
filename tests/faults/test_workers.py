"""Workers that are asked to stop, put to sleep for longer than their lease, or told another time."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db import jobs
from app.db.tables import ChunkRow, DocumentRow, JobRow
from app.services import Services
from app.versions.verifying import verify
from tests.faults.conftest import CalmFleet
from tests.faults.harness import checks, clock
from tests.faults.harness.fleet import Fleet

HOUR = 3600
DAY = 24 * HOUR
N_DOCUMENTS = 30


def send_all(fleet: Fleet, numbers: range = range(N_DOCUMENTS)) -> None:
    for number in numbers:
        text = f"# Note {number}\n\n" + f"The word is note{number}word, and some more of them. " * 20
        reply = fleet.ask("POST", "/v1/documents", json={"text": text, "source": f"{number}.md"})
        assert reply is not None
        assert reply.status_code == 202


def wait_until_working(services: Services, *, worker_pid: int | None = None) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with services.read() as session:
            workers = set(session.scalars(select(JobRow.worker).where(JobRow.status == "doing")))
        if any(worker_pid is None or f":{worker_pid}:" in str(worker) for worker in workers):
            return
        time.sleep(0.01)
    raise AssertionError("no job was taken")


def check_each_once(services: Services, n_documents: int = N_DOCUMENTS) -> None:
    with services.read() as session:
        rows = session.scalars(select(DocumentRow)).all()
        counts = jobs.counts(session)
        n_chunks = len(session.scalars(select(ChunkRow.id)).all())
    assert [row.status for row in rows] == ["ready"] * n_documents
    assert {status for _, status in counts} == {"succeeded"}
    assert n_chunks == sum(row.n_chunks for row in rows)
    version = checks.active_version(services)
    assert verify(services, version, files=True).problems == ()


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [2, 4])
def test_several_workers_on_one_collection_do_each_document_once(
    calm_fleet: CalmFleet, services: Services, n_workers: int
) -> None:
    fleet = calm_fleet(n_workers=n_workers, FOOTNOTE_WORKER_LEASE_SECONDS="60")
    send_all(fleet)
    fleet.wait_until_quiet(services)
    check_each_once(services)
    with services.read() as session:
        attempts = set(session.scalars(select(JobRow.attempts)))
    assert attempts == {1}


@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop_leaves_nothing_to_wait_for(
    calm_fleet: CalmFleet, services: Services
) -> None:
    """The batch in hand is finished, the rest is at once another's, whatever the lease."""
    fleet = calm_fleet(FOOTNOTE_WORKER_LEASE_SECONDS="600")
    for turn in range(3):
        send_all(fleet, range(turn * 10, turn * 10 + 10))
        (worker,) = fleet.workers
        wait_until_working(services, worker_pid=worker.pid)
        worker.send(signal.SIGTERM)
        assert worker.wait(30) == 0
        with services.read() as session:
            held = session.scalars(select(JobRow.worker).where(JobRow.status == "doing")).all()
        assert held == []
        fleet.forget_ended()
        fleet.revive()
    fleet.wait_until_quiet(services, timeout_seconds=60)
    check_each_once(services)


@pytest.mark.slow
def test_a_worker_that_sleeps_longer_than_its_lease_changes_nothing_when_it_wakes(
    calm_fleet: CalmFleet, services: Services
) -> None:
    fleet = calm_fleet(n_workers=2)
    for turn in range(3):
        send_all(fleet, range(turn * 10, turn * 10 + 10))
        sleeper = fleet.workers[turn % 2]
        wait_until_working(services)
        sleeper.send(signal.SIGSTOP)
        time.sleep(2.5)
        sleeper.send(signal.SIGCONT)
    fleet.wait_until_quiet(services)
    assert fleet.problems == []
    check_each_once(services)


@pytest.mark.slow
@pytest.mark.parametrize("jump", [HOUR, -HOUR, DAY, -DAY], ids=["+1 h", "-1 h", "+1 day", "-1 day"])
def test_a_clock_that_jumps_costs_no_job_and_delays_none(
    calm_fleet: CalmFleet, services: Services, tmp_path: Path, jump: int
) -> None:
    """The jobs of a worker that was killed are soon another's, though their lease ends in a day."""
    offset = tmp_path / "clock"
    offset.write_text("0")
    fleet = calm_fleet(n_workers=2, **{clock.VARIABLE: str(offset)})
    send_all(fleet, range(15))
    wait_until_working(services)
    fleet.workers[0].kill()
    offset.write_text(str(jump))
    fleet.workers[0].wait(10)
    fleet.forget_ended()
    send_all(fleet, range(15, N_DOCUMENTS))
    fleet.wait_until_quiet(services, timeout_seconds=60)
    assert fleet.problems == []
    check_each_once(services)
