"""A lock on a directory is one lock, also where its file is removed and made anew."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from indexing.locks import DirectoryLock


def test_one_at_a_time(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path), DirectoryLock(tmp_path)
    first.acquire()
    with pytest.raises(TimeoutError):
        second.acquire(timeout_seconds=0)
    first.release()
    second.acquire(timeout_seconds=0)
    second.release()


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who held the lock removes its file and lets go between another's opening and locking it."""
    lockf, path = fcntl.lockf, tmp_path / DirectoryLock.name
    removed: list[int] = []

    def slow(descriptor: int, kind: int) -> None:
        if not removed:
            removed.append(path.stat().st_ino)
            path.rename(tmp_path / "removed")
        lockf(descriptor, kind)

    monkeypatch.setattr(fcntl, "lockf", slow)
    lock, other = DirectoryLock(tmp_path), DirectoryLock(tmp_path)
    lock.acquire()
    assert path.stat().st_ino not in removed, "it was tried again, on the file that is there"
    with pytest.raises(TimeoutError):
        other.acquire(timeout_seconds=0)
    lock.release()
