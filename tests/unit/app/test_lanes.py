"""A build holds up no document, stops when it is told to, and is gone on with where it stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.db import jobs, queue, versions
from app.db.tables import JobRow
from app.db.types import utc_now
from app.documents import cancelling
from app.lanes import Lanes
from app.services import Services, open_services
from app.settings import WorkerSettings
from app.upkeep.orders import BuildOrder
from app.upkeep.upkeep import BUILD, REPAIR, VERIFY
from app.versions import building
from app.worker import Worker
from indexing.encoding.base import Progress
from indexing.encoding.fake import WordEncoder
from indexing.types import Encoding
from tests.service import settings_for, work
from tests.unit.app import damage
from tests.unit.app.texts import PAGES, collection_id, ingest, sources, submit

LEASE_SECONDS = 2.0
FINE = BuildOrder(settings={"chunker.max_tokens": 32, "chunker.overlap_tokens": 0})
LONG = {
    f"{n}.md": "\n\n".join(f"Of {n} and matter {m} much is said here. " * 5 for m in range(6))
    for n in range(8)
}


class Slow(WordEncoder):
    """Waits a moment for each call with documents, when it is told to; counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.encoding = threading.Event()
        self.texts: list[str] = []

    def encode_documents(
        self, texts: Sequence[str], *, with_tokens: bool = False, progress: Progress | None = None
    ) -> Encoding:
        self.texts += texts
        if self.seconds:
            self.encoding.set()
            time.sleep(self.seconds)
        return super().encode_documents(texts, with_tokens=with_tokens)

    def encode_queries(self, texts: Sequence[str], *, with_tokens: bool = False) -> Encoding:
        return super().encode_documents(texts, with_tokens=with_tokens)


@pytest.fixture
def encoder() -> Slow:
    return Slow()


@pytest.fixture
def services(home: Path, encoder: Slow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(building, "TEXTS_ENCODED", 4)
    worker = WorkerSettings(loaders=1, poll_seconds=0.02, lease_seconds=LEASE_SECONDS)
    with open_services(settings_for(home, "", worker=worker), load=lambda _spec, _dir: encoder) as opened:
        ingest(opened, PAGES | LONG)
        yield opened


@contextmanager
def working(worker: Lanes | Worker) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield thread
    finally:
        worker.stop()
        thread.join(30)
        assert not thread.is_alive()


def start_build(services: Services, order: BuildOrder = FINE) -> str:
    with services.write() as session:
        owner = collection_id(services)
        return jobs.enqueue(session, BUILD, payload=order.payload(), collection_id=owner).job.id


def job(services: Services, job_id: str) -> JobRow:
    with services.read() as session:
        return jobs.get(session, job_id)


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def statuses(services: Services) -> list[str]:
    with services.read() as session:
        return [row.status for row in versions.list_all(session)]


def directories(services: Services) -> set[str]:
    return {path.name for path in services.settings.indexes_dir.iterdir()}


def test_documents_are_taken_in_while_a_build_runs(services: Services, encoder: Slow) -> None:
    build_id = start_build(services)
    encoder.seconds = 0.3
    with working(Lanes(services)):
        assert encoder.encoding.wait(20)
        accepted = submit(services, "late.md", "A late arrival.")
        assert accepted.job is not None
        until(lambda: job(services, accepted.job.id).status == "succeeded", 10)
        assert job(services, build_id).status == "doing", "the build was waited for"
        assert sources(services, "late arrival")[0] == "late.md"
        encoder.seconds = 0
        until(lambda: job(services, build_id).status == "succeeded")
        assert sources(services, "late arrival")[0] == "late.md", "the new version has caught up"
    result = job(services, build_id).result
    assert result is not None
    assert result["index_version"] == building.ensure_active(services, collection_id(services)).id
    assert (result["recall_before"], result["forced"]) == (None, False)


def test_a_cancelled_build_stops_within_seconds_and_leaves_nothing(services: Services, encoder: Slow) -> None:
    before, build_id = directories(services), start_build(services)
    encoder.seconds = 0.3
    with working(Lanes(services)):
        assert encoder.encoding.wait(20)
        until(lambda: job(services, build_id).progress_note == "encode")
        with services.write() as session:
            cancelling.cancel(session, build_id)
        asked = time.monotonic()
        until(lambda: job(services, build_id).status == "cancelled", 5)
        assert time.monotonic() - asked < 3
    assert directories(services) == before
    assert statuses(services) == ["ready"]


def test_a_worker_that_stops_gives_the_build_back_and_another_goes_on(
    services: Services, encoder: Slow
) -> None:
    build_id = start_build(services)
    encoder.seconds, encoder.texts = 0.2, []
    with working(Lanes(services)):
        assert encoder.encoding.wait(20)
        until(lambda: job(services, build_id).progress_done > 4)
        asked = time.monotonic()
    assert time.monotonic() - asked < 5, "a stop is not a wait for the build"
    left = job(services, build_id)
    assert (left.status, left.attempts, left.worker) == ("todo", 0, None)
    assert sorted(statuses(services)) == ["building", "ready"]
    begun = directories(services)
    encoder.seconds, n_encoded = 0, len(encoder.texts)
    work(services)
    done = job(services, build_id)
    assert done.status == "succeeded"
    assert done.result is not None
    assert done.result["index_version"] in begun, "it went on with what was there"
    assert statuses(services).count("ready") == 2
    assert n_encoded < len(encoder.texts)
    assert len(encoder.texts) == len(set(encoder.texts)), "nothing was encoded twice"


def test_a_build_stopped_while_it_writes_goes_on_after_the_last_part(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "CHUNKS_A_PART", 4)
    monkeypatch.setattr(building, "DOCUMENTS_ADDED", 1)
    encoder_spec, chunker_spec = FINE.specs(services)
    specs = {"encoder_spec": encoder_spec, "chunker_spec": chunker_spec}
    seen: list[int] = []

    def stop_half_way(stage: str, done: int, total: int) -> None:
        if stage == "index" and done >= total // 2:
            raise building.BuildStopped

    def note(stage: str, done: int, _total: int) -> None:
        if stage == "index":
            seen.append(done)

    owner = collection_id(services)
    with pytest.raises(building.BuildStopped):
        building.build(services, owner, **specs, progress=stop_half_way)
    calm = building.build(services, owner, **specs, progress=note)
    assert seen[0] > 2, "what was committed is not written again"
    assert seen[-1] == len(PAGES | LONG)
    assert statuses(services) == ["ready", "ready"]
    fresh = building.build(services, owner, **specs)
    ids = [services.snapshots.get(row.id).chunk_ids().tolist() for row in (calm, fresh)]
    assert ids[0] == ids[1]


def test_an_attempt_killed_before_the_switch_is_not_built_again(services: Services) -> None:
    build_id = start_build(services)
    with services.write() as session:
        (claimed,) = queue.claim(session, "killed", [BUILD], lease_seconds=0.0)
    encoder_spec, chunker_spec = FINE.specs(services)
    owner = collection_id(services)
    built = building.build(services, owner, encoder_spec=encoder_spec, chunker_spec=chunker_spec).id
    time.sleep(0.01)
    work(services)
    done = job(services, build_id)
    assert (done.status, done.attempts, claimed.id) == ("succeeded", 2, build_id)
    assert done.result is not None
    assert done.result["index_version"] == built
    assert building.ensure_active(services, owner).id == built


def test_an_order_that_cannot_be_met_fails_at_once(services: Services) -> None:
    build_id = start_build(services, BuildOrder(settings={"chunker.max_tokens": 5000}))
    work(services)
    failed = job(services, build_id)
    assert (failed.status, failed.error_code, failed.attempts) == ("failed", "chunk_too_long", 1)


def test_a_build_whose_lease_was_lost_leaves_what_it_has_to_another(
    services: Services, encoder: Slow
) -> None:
    build_id = start_build(services)
    encoder.seconds = 0.2
    lanes = Lanes(services)
    with working(lanes):
        assert encoder.encoding.wait(20)
        until(lambda: job(services, build_id).progress_done > 4)
        with services.write() as session:
            theirs = {"worker": "other", "lease_expires_at": utc_now().replace(year=2100)}
            session.execute(update(JobRow).where(JobRow.id == build_id).values(**theirs))
        time.sleep(1.5)
        assert job(services, build_id).status == "doing"
        assert sorted(statuses(services)) == ["building", "ready"], "it stays for the other to go on with"


def test_verifying_and_mending_are_jobs_with_a_result(services: Services) -> None:
    version = building.ensure_active(services, collection_id(services)).id
    damage.flipped_byte(services, version)
    found = run(services, VERIFY, {"version": version, "vectors": 8, "files": True})
    assert (found["ok"], [problem["kind"] for problem in found["problems"]]) == (False, ["checksum"])
    done = run(services, REPAIR, {"version": version})
    assert done["left"] == []
    active = building.ensure_active(services, collection_id(services)).id
    assert done["replaced_by"] == active
    assert run(services, VERIFY, {"version": active, "vectors": 8, "files": False})["ok"]


def run(services: Services, kind: str, payload: dict[str, object]) -> dict[str, Any]:
    with services.write() as session:
        added = jobs.enqueue(session, kind, payload=payload).job
    work(services)
    done = job(services, added.id)
    assert done.status == "succeeded", done.error_detail
    assert done.result is not None
    return done.result


def test_a_lane_that_breaks_ends_the_process(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = Lanes(services)
    monkeypatch.setattr(Worker, "prepare", lambda _self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lanes.run()
