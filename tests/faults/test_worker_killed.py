"""A worker killed with SIGKILL in the middle of its work loses nothing and doubles nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest

from app.db import chunks, collections, documents, jobs, versions
from app.db.types import utc_now
from app.documents import intake
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from app.versions import verifying
from tests.service import settings_for

N_DOCUMENTS = 500
N_KILLS = 6
DRAIN_SECONDS = 300
SUBJECTS = ("harbour", "lantern", "orchard", "glacier", "violin", "compass", "meadow", "furnace")
VERBS = ("carries", "hides", "measures", "follows", "repairs", "outlives")


def text_of(number: int) -> str:
    chosen = random.Random(number)
    lines = [
        f"The {chosen.choice(SUBJECTS)} {chosen.choice(VERBS)} the {chosen.choice(SUBJECTS)} on day {n}."
        for n in range(chosen.randint(2, 12))
    ]
    return f"# Record {number}\n\n" + " ".join(lines) + "\n"


def submit_all(services: Services) -> None:
    for number in range(N_DOCUMENTS):
        submission = intake.Submission(filename=f"{number:03d}.md")
        intake.submit(services, submission, BytesIO(text_of(number).encode()))


def start_worker(home: Path, url: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "FOOTNOTE_DATABASE_URL": url,
        "FOOTNOTE_WORKER_LEASE_SECONDS": "1",
        "FOOTNOTE_WORKER_POLL_SECONDS": "0.1",
        "FOOTNOTE_WORKER_BATCH_DOCUMENTS": "40",
        "FOOTNOTE_WORKER_MAX_ATTEMPTS": "50",
    }
    command = [sys.executable, "-m", "app.cli", "worker", "--home", str(home)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def n_left(services: Services) -> int:
    with services.read() as session:
        counts = jobs.counts(session)
    return sum(n for (_, status), n in counts.items() if status in ("todo", "doing"))


def state_of(services: Services) -> tuple[object, ...]:
    """Everything a user can see: documents, chunks, and the hits of many queries with their scores."""
    with services.read() as session:
        collection = collections.get_by_name(session, "default")
        page = documents.list_page(session, collection_id=collection.id, limit=N_DOCUMENTS + 10)
        version = versions.active(session, collection.id)
        assert version is not None
        ids = chunks.ids_of_collection(session, collection.id, version.chunker_fingerprint).tolist()
    listed = sorted((row.source, row.status, row.revision, row.n_chunks) for row in page.items)
    hits = [
        (hit.chunk.id, round(hit.score, 6))
        for subject in SUBJECTS
        for mode in ("bm25", "dense", "hybrid", "rrf")
        for hit in search(services, SearchRequest(query=f"the {subject}", mode=mode, top_k=20)).passages  # type: ignore[arg-type]
    ]
    assert verifying.verify(services, version.id).ok
    return listed, ids, hits


@pytest.mark.slow
def test_a_killed_worker_leaves_what_an_undisturbed_one_would(database_url: str, tmp_path: Path) -> None:
    undisturbed = settings_for(tmp_path / "calm", "")
    with open_services(undisturbed) as services:
        submit_all(services)
        calm = start_worker(undisturbed.home, "")
        wait_until_done(services, [calm])
        expected = state_of(services)
    disturbed = settings_for(tmp_path / "storm", database_url)
    chosen = random.Random(7)
    with open_services(disturbed) as services:
        submit_all(services)
        for kill in range(N_KILLS):
            worker = start_worker(disturbed.home, database_url)
            wait_until_working(services)
            if kill % 2:  # else the kill hits the first batch, perhaps before anything of it is kept
                wait_until_fewer(services, n_left(services))
            time.sleep(chosen.uniform(0.0, 1.0))
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        left_after_kills = n_left(services)
        wait_until_done(services, [start_worker(disturbed.home, database_url) for _ in range(2)])
        assert state_of(services) == expected
    assert len(expected[0]) == N_DOCUMENTS  # type: ignore[arg-type]
    assert left_after_kills < N_DOCUMENTS, "no worker lived long enough for the test to mean something"


def wait_until_working(services: Services) -> None:
    """Until a job is in work whose lease is alive, so that the kill hits the work and not the start."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with services.read() as session:
            page = jobs.list_page(session, status="doing", limit=1)
        if any(job.lease_expires_at and job.lease_expires_at > utc_now() for job in page.items):
            return
        time.sleep(0.05)
    raise AssertionError("no job was taken")


def wait_until_fewer(services: Services, n_before: int) -> None:
    """Until some of the jobs are done."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while n_left(services) >= n_before:
        assert time.monotonic() < deadline, "no job was done"
        time.sleep(0.05)


def wait_until_done(services: Services, workers: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    try:
        while n_left(services):
            assert time.monotonic() < deadline, "the jobs were not done in time"
            assert all(worker.poll() is None for worker in workers)
            time.sleep(0.2)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            assert worker.wait(timeout=30) == 0, "SIGTERM ends a worker in good order"
