"""Watching: when a folder is looked at, and what comes of it."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import watchfiles
from sqlalchemy.exc import OperationalError

from app.db.errors import CollectionNotFound
from app.errors import FootnoteError
from app.files import watching
from app.files.sync_plans import Options
from app.files.syncing import Report
from app.files.watching import looks, watch
from app.services import Services
from indexing.errors import IndexDamaged


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_folder_is_looked_at_at_once_and_after_a_change(tmp_path: Path, stop: threading.Event) -> None:
    seen = looks(tmp_path, stop, poll_seconds=60)
    next(seen)
    (tmp_path / "a.md").write_text("a")  # while the first look is taken
    next(seen)
    (tmp_path / "sub").mkdir()
    next(seen)
    stop.set()
    assert list(seen) == []


def test_looks_end_when_another_folder_is_at_the_place(tmp_path: Path, stop: threading.Event) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    seen = looks(docs, stop, poll_seconds=60)
    next(seen)
    docs.rename(tmp_path / "old")
    docs.mkdir()
    assert list(seen) == []


def test_a_folder_is_polled_where_changes_are_not_announced(
    tmp_path: Path, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Iterator[object]:
        raise OSError("no space for more watches")
        yield

    monkeypatch.setattr(watchfiles, "watch", refuse)
    seen = looks(tmp_path, stop, poll_seconds=0.01)
    for _ in range(3):
        next(seen)
    stop.set()
    assert list(seen) == []


def test_trouble_is_told_once_and_what_is_not_settled_is_looked_at_again(
    services: Services, tmp_path: Path, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Syncs as they come: twice none possible, one that leaves a file for later, one that takes it."""
    outcomes: list[Report | FootnoteError] = [
        FootnoteError("away", code="folder_unreadable"),
        FootnoteError("away", code="folder_unreadable"),
        Report(added=["a"], n_unsettled=1),
        Report(added=["b"]),
    ]
    settled: list[float] = []

    def sync(*arguments: object, **_: object) -> Report:
        options = arguments[3]
        assert isinstance(options, Options)
        settled.append(options.settle_seconds)
        outcome = outcomes.pop(0)
        if not outcomes:
            stop.set()
        if isinstance(outcome, FootnoteError):
            raise outcome
        return outcome

    monkeypatch.setattr(watching, "sync", sync)
    quick = services.settings.sync.model_copy(update={"poll_seconds": 0.01, "settle_seconds": 0.02})
    services.settings = services.settings.model_copy(update={"sync": quick})
    added: list[str] = []
    told: list[str] = []
    watch(
        services,
        "default",
        tmp_path,
        Options(),
        stop,
        on_report=lambda report: added.extend(report.added),
        on_trouble=lambda error: told.append(error.code),
        say=lambda *_: None,
    )
    assert (added, told, settled) == (["a", "b"], ["folder_unreadable"], [0.02] * 4)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            OperationalError("SELECT", {}, sqlite3.OperationalError("database is locked")),
            "database_unavailable",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "storage_full"),
        (CollectionNotFound("there is no such collection"), "collection_not_found"),
        (IndexDamaged("words.bin has 3 bytes instead of 4."), "index_damaged"),
    ],
)
def test_what_passes_is_waited_for(
    services: Services,
    tmp_path: Path,
    stop: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: str,
) -> None:
    """A database that is away for a night does not end a watch of weeks."""
    outcomes: list[Report | Exception] = [error, error, Report(added=["a"])]

    def sync(*_: object, **__: object) -> Report:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        stop.set()
        return outcome

    monkeypatch.setattr(watching, "sync", sync)
    quick = services.settings.sync.model_copy(update={"poll_seconds": 0.01, "settle_seconds": 0.02})
    services.settings = services.settings.model_copy(update={"sync": quick})
    told: list[str] = []
    watch(
        services,
        "default",
        tmp_path,
        Options(),
        stop,
        on_report=lambda _: None,
        on_trouble=lambda error: told.append(error.code),
        say=lambda *_: None,
    )
    assert (told, outcomes) == ([code], [])
