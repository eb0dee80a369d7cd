"""A lock on a directory, between processes and between the threads of one."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from threading import Lock

_POLL_SECONDS = 0.02
_held: set[tuple[int, int]] = set()
_held_guard = Lock()


class DirectoryLock:
    """Exclusive; the system releases it when the process dies, however it dies.

    A POSIX record lock, because a child process must not inherit it and keep it for a dead parent. Such a
    lock does not exclude other threads of the same process, so a set of the locks held here does.
    """

    name = ".lock"

    def __init__(self, directory: Path) -> None:
        self._path = directory / self.name
        self._descriptor = -1
        self._key = (0, 0)

    def acquire(self, timeout_seconds: float | None = None) -> None:
        """Waits until the lock is ours; raises TimeoutError after the given time."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not self._try():
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"Another writer holds {self._path}.")
            time.sleep(_POLL_SECONDS)

    def release(self) -> None:
        with _held_guard:
            os.close(self._descriptor)
            _held.discard(self._key)

    def _try(self) -> bool:
        with _held_guard:
            # A closed descriptor would release the lock of another thread, so look at the set first.
            self._path.touch()
            status = self._path.stat()
            key = (status.st_dev, status.st_ino)
            if key in _held:
                return False
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return False
            if not self._is_still(key, descriptor):
                os.close(descriptor)
                return False
            _held.add(key)
            self._descriptor, self._key = descriptor, key
            return True

    def _is_still(self, key: tuple[int, int], descriptor: int) -> bool:
        """Whether the file that was locked is the one that others find: whoever had the lock may have removed
        the file between our opening it and our lock, which then is one on nothing."""
        try:
            found = [os.fstat(descriptor), self._path.stat()]
        except FileNotFoundError:
            return False
        return all((status.st_dev, status.st_ino) == key for status in found)


class MergeLock(DirectoryLock):
    """Held by the one who merges segments of a version, beside the lock of its writer."""

    name = ".merge.lock"
