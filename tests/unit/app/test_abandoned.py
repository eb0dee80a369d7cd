"""What a killed build left goes; what is being built, or served, stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from app.db import collections, versions
from app.db.tables import IndexVersionRow
from app.db.types import utc_now
from app.services import Services
from app.settings import ChunkerSettings
from app.versions import abandoned, building
from app.worker import Worker
from indexing.locks import DirectoryLock
from tests.unit.app import texts
from tests.unit.app.texts import PAGES, collection_id, ingest, sources


@pytest.fixture
def filled(services: Services) -> Services:
    ingest(services, PAGES)
    return services


def unfinished(services: Services, *, minutes: float, collection: str = "default") -> str:
    """A version whose build began so long ago and said nothing since."""
    version = texts.unfinished(services, collection)
    age(services, version, minutes)
    return version


@contextmanager
def other_recipe(services: Services) -> Iterator[None]:
    """Builds are of another chunker for the block."""
    before = services.settings
    services.settings = before.model_copy(update={"chunker": ChunkerSettings(max_tokens=32)})
    yield
    services.settings = before


def age(services: Services, version: str, minutes: float) -> None:
    with services.write() as session:
        began = utc_now() - timedelta(minutes=minutes)
        session.execute(update(IndexVersionRow).where(IndexVersionRow.id == version).values(created_at=began))


def status(services: Services, version: str) -> str:
    with services.read() as session:
        return versions.get(session, version).status


def directories(services: Services) -> set[str]:
    return {path.name for path in services.settings.indexes_dir.iterdir()}


def test_an_old_unfinished_version_has_failed_and_its_files_go(filled: Services) -> None:
    before = directories(filled)
    old = unfinished(filled, minutes=60 * 24 + 1)
    with other_recipe(filled):
        young = unfinished(filled, minutes=60 * 24 - 1)
    abandoned.sweep(filled)
    assert (status(filled, old), status(filled, young)) == ("failed", "building")
    assert directories(filled) == before | {young}
    assert sources(filled, "warm the pot", mode="bm25") == ["tea.md"]


@pytest.mark.parametrize("of_writer", [True, False], ids=["its writer's lock", "its build's lock"])
def test_what_someone_works_on_stays(filled: Services, of_writer: bool) -> None:
    version = unfinished(filled, minutes=60 * 48)
    folder = filled.settings.indexes_dir
    lock = DirectoryLock(folder / version) if of_writer else abandoned.BuildLock(folder, version)
    lock.acquire()
    abandoned.sweep(filled)
    assert status(filled, version) == "building"
    assert version in directories(filled)
    lock.release()
    abandoned.sweep(filled)
    assert status(filled, version) == "failed"
    assert version not in directories(filled)


def test_a_build_holds_its_lock_from_end_to_end(filled: Services) -> None:
    seen: list[str] = []

    def sweep_in_between(stage: str, _done: int, _total: int) -> None:
        with filled.read() as session:
            (row,) = versions.list_all(session, status="building")
        age(filled, row.id, 60 * 48)
        abandoned.sweep(filled)
        seen.append(f"{stage} {status(filled, row.id)}")

    built = building.build(filled, collection_id(filled), progress=sweep_in_between)
    assert {entry.split()[1] for entry in seen} == {"building"}
    assert {entry.split()[0] for entry in seen} == {"chunk", "encode", "index", "verify"}
    assert status(filled, built.id) == "ready"
    assert directories(filled) >= {built.id}
    assert not [name for name in directories(filled) if name.startswith(".")], "no lock is left"


def test_a_new_build_ends_the_abandoned_ones_of_its_collection(filled: Services) -> None:
    with filled.write() as session:
        collections.create(session, "other")
    with other_recipe(filled):
        ours = unfinished(filled, minutes=11)
    theirs = unfinished(filled, minutes=11, collection="other")
    built = building.build(filled, collection_id(filled)).id
    assert (status(filled, ours), status(filled, theirs), status(filled, built)) == (
        "failed",
        "building",
        "ready",
    )


def test_a_build_goes_on_with_an_abandoned_one_of_its_kind(filled: Services) -> None:
    version = unfinished(filled, minutes=60)
    assert building.build(filled, collection_id(filled)).id == version
    assert status(filled, version) == "ready"


def test_a_build_that_someone_works_on_is_not_taken_over(filled: Services) -> None:
    version = unfinished(filled, minutes=60)
    with abandoned.building_lock(filled.settings.indexes_dir, version):
        assert building.build(filled, collection_id(filled)).id != version
    assert status(filled, version) == "building"


def test_an_abandoned_build_that_cannot_be_read_is_begun_anew(filled: Services) -> None:
    version = unfinished(filled, minutes=60)
    (filled.settings.indexes_dir / version / "manifest.json").unlink()
    assert building.build(filled, collection_id(filled)).id != version
    assert status(filled, version) == "failed"


def test_a_worker_that_starts_ends_them_all(filled: Services) -> None:
    version = unfinished(filled, minutes=60 * 24 + 1)
    worker = Worker(filled)
    worker.stop()
    worker.run()
    assert status(filled, version) == "failed"


def test_directories_that_no_row_names_go_after_an_hour(filled: Services) -> None:
    folder = filled.settings.indexes_dir
    before = directories(filled)
    old, young, others = folder / ("a" * 32), folder / ("b" * 32), folder / "notes"
    for path, minutes in ((old, 61), (young, 59), (others, 600)):
        path.mkdir()
        (path / "manifest.json").write_text("{}")
        os.utime(path, (time.time() - 60 * minutes,) * 2)
    for path in folder.iterdir():
        if path.name in before:
            os.utime(path, (0, 0))
    abandoned.sweep(filled)
    assert directories(filled) == before | {young.name, others.name}


def test_the_lock_of_a_killed_build_is_free(filled: Services) -> None:
    version = unfinished(filled, minutes=60 * 48)
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom app.versions.abandoned import BuildLock\n"
        "BuildLock(Path(sys.argv[1]), sys.argv[2]).acquire()\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(filled.settings.indexes_dir), version],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    abandoned.sweep(filled)
    assert status(filled, version) == "building"
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    abandoned.sweep(filled)
    assert status(filled, version) == "failed"
