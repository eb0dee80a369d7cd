"""A backup or a restore killed with SIGKILL: nothing is half there, and the same command completes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest

from app.backup import links, restoring
from app.db import collections, documents, versions
from app.documents import intake
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from app.settings import Settings
from app.versions import verifying
from indexing.encoding.fake import WordEncoder
from tests.service import settings_for, work

ROOT = Path(__file__).parents[2]
BACKUP_POINTS = ("backup-linked", "backup-rows:3", "backup-files:2", "backup-written", "backup-renamed")
RESTORE_POINTS = (
    "restore-rows:1",
    "restore-rows:5",
    "restore-files:2",
    "restore-loaded",
    "restore-placed:2",
    "restoring-written",
    "restore-switching",
    "restore-switched",
    "manifest-renamed:2",
    "restore-indexed",
)
SWITCHED = RESTORE_POINTS.index("restore-switched")
SUBJECTS = ("harbour", "lantern", "orchard", "glacier")


def run(command: str, file: Path, settings: Settings, *options: str, crash_at: str | None = None) -> int:
    """Runs the command as a process; gives its exit code."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if crash_at:
        environment["FOOTNOTE_CRASH_AT"] = crash_at
    arguments = [command, str(file), str(settings.home), settings.database.url, *options]
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.backup_process", *arguments],
        env=environment,
        cwd=ROOT,
        timeout=120,
        check=False,
    ).returncode


def opened(settings: Settings):  # type: ignore[no-untyped-def]
    return open_services(settings, load=lambda _spec, _dir: WordEncoder())


def fill(settings: Settings, word: str) -> list[object]:
    with opened(settings) as services:
        for subject in SUBJECTS:
            text = f"The {subject} is {word}, and a {subject} of the {word} kind is rare."
            intake.submit(services, intake.Submission(filename=f"{subject}.txt"), BytesIO(text.encode()))
        work(services)
        return state_of(services)


def state_of(services: Services) -> list[object]:
    """Everything a user can see: documents, their files, and hits with scores."""
    with services.read() as session:
        page = documents.list_page(session, collection_id=collections.get_by_name(session, "default").id)
        listed = sorted((row.source, row.status, row.revision, row.content_hash) for row in page.items)
    for _, _, _, content_hash in listed:
        assert services.store.path(content_hash).is_file()
    requests = [
        SearchRequest(query=f"a rare {subject}", mode=mode)
        for subject in SUBJECTS
        for mode in ("bm25", "dense")
    ]  # type: ignore[arg-type]
    return [
        *listed,
        *([(hit.chunk.id, hit.score) for hit in search(services, request).passages] for request in requests),
    ]


def sources_of(settings: Settings) -> set[str]:
    """The hashes of the documents, which differ between the two states."""
    with opened(settings) as services, services.read() as session:
        page = documents.list_page(session, collection_id=collections.get_by_name(session, "default").id)
        return {row.content_hash for row in page.items}


def check_index(services: Services) -> None:
    with services.read() as session:
        row = versions.active(session, collections.get_by_name(session, "default").id)
    assert row is not None
    assert verifying.verify(services, row.id, files=True).problems == ()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """A backup, and the state that it holds."""
    folder = tmp_path_factory.mktemp("source")
    settings = settings_for(folder / "home", "")
    state = fill(settings, "old")
    assert run("backup", folder / "backup.tar", settings) == 0
    return folder / "backup.tar", state


@pytest.mark.parametrize("before", ["nothing", "another"])
@pytest.mark.parametrize("point", BACKUP_POINTS)
def test_a_killed_backup(tmp_path: Path, point: str, before: str) -> None:
    settings, file = settings_for(tmp_path / "home", ""), tmp_path / "backup.tar"
    state = fill(settings, "green")
    if before == "another":
        assert run("backup", file, settings) == 0
    earlier = file.read_bytes() if file.exists() else None
    assert run("backup", file, settings, crash_at=point) == -signal.SIGKILL
    if point == "backup-renamed":
        with file.open("rb") as archive:
            restoring.verify(archive)
    else:
        assert (file.read_bytes() if file.exists() else None) == earlier
    with opened(settings) as services:
        assert state_of(services) == state
        n_left = 0 if point in ("backup-written", "backup-renamed") else 1
        assert links.sweep(services.store, older_than_seconds=-1) == n_left
    assert run("backup", file, settings) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.tar", "home"]
    with file.open("rb") as archive:
        assert restoring.verify(archive).n_files == len(SUBJECTS)


@pytest.mark.parametrize("point", RESTORE_POINTS)
def test_a_killed_restore_into_nothing(
    source: tuple[Path, list[object]], empty_database_url: str, tmp_path: Path, point: str
) -> None:
    file, state = source
    settings = settings_for(tmp_path / "there", empty_database_url)
    assert run("restore", file, settings, crash_at=point) == -signal.SIGKILL
    wanted = {row[3] for row in state[: len(SUBJECTS)]}  # type: ignore[index]
    assert sources_of(settings) == (wanted if RESTORE_POINTS.index(point) >= SWITCHED else set())
    assert run("restore", file, settings) == 0
    with opened(settings) as services:
        assert state_of(services) == state
        check_index(services)
    assert not [path.name for path in settings.home.iterdir() if "restoring" in path.name]
    assert run("restore", file, settings) == 1, "what is complete is data like any other"


@pytest.mark.parametrize("point", ["restore-kept", *RESTORE_POINTS])
def test_a_killed_replacement(
    source: tuple[Path, list[object]], empty_database_url: str, tmp_path: Path, point: str
) -> None:
    file, state = source
    settings = settings_for(tmp_path / "there", empty_database_url)
    mine = fill(settings, "mine")
    assert run("restore", file, settings, "replace", crash_at=point) == -signal.SIGKILL
    with opened(settings) as services:
        if point not in RESTORE_POINTS or RESTORE_POINTS.index(point) < SWITCHED:
            assert state_of(services) == mine
    assert run("restore", file, settings, "replace") == 0
    with opened(settings) as services:
        assert state_of(services) == state
        check_index(services)
    oldest = min(settings.home.glob("replaced-*.tar"), key=lambda path: path.stat().st_mtime_ns)
    assert run("restore", oldest, settings, "replace") == 0
    with opened(settings) as services:
        assert state_of(services) == mine
