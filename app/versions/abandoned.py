"""What killed builds leave behind: versions that are `building` for ever, directories that no row names."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from app.db import versions
from app.db.errors import VersionNotFound
from app.db.types import utc_now
from indexing.locks import DirectoryLock

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)

# Without a lock no one works on a version; it is left for a while to a build that may go on with it.
BUILDING_FOR = timedelta(minutes=10)
RESUMABLE_FOR = timedelta(hours=24)
UNNAMED_FOR = timedelta(hours=1)
ERROR = "the build was ended before it was done"
# A lock that another holds, or a path that another removes at this moment.
_TAKEN = (TimeoutError, FileNotFoundError)
_VERSION = re.compile(r"[0-9a-f]{32}")


class BuildLock(DirectoryLock):
    """Held by a build from end to end; its writer's own lock is held only while it writes.

    It lies beside the version, because a writer removes what it does not know.
    """

    def __init__(self, indexes_dir: Path, version_id: str) -> None:
        self.name = f".{version_id}.building"
        super().__init__(indexes_dir)


@contextmanager
def building_lock(
    indexes_dir: Path, version_id: str, *, timeout_seconds: float | None = None
) -> Iterator[None]:
    """Says to others, while the block runs, that this version is being built.

    Raises TimeoutError where another has said so for longer than the timeout.
    """
    lock = BuildLock(indexes_dir, version_id)
    lock.acquire(timeout_seconds)
    try:
        yield
    finally:
        (indexes_dir / lock.name).unlink(missing_ok=True)
        lock.release()


def sweep(services: Services, collection_id: int | None = None) -> list[str]:
    """Ends abandoned builds, removes unnamed directories; gives what went.

    Of one collection, when a build of it begins: what this one has not gone on with is of no use. Of all of
    them only what no build has gone on with for a day.
    """
    gone = [version_id for version_id in _unfinished(services, collection_id) if _end(services, version_id)]
    gone += [path.name for path in unnamed(services, older_than=UNNAMED_FOR) if remove_directory(path)]
    if gone:
        logger.info("abandoned index versions removed", extra={"action": "index_sweep", "versions": gone})
    return gone


def _unfinished(services: Services, collection_id: int | None) -> list[str]:
    before = utc_now() - (RESUMABLE_FOR if collection_id is None else BUILDING_FOR)
    with services.read() as session:
        rows = versions.list_all(session, collection_id=collection_id, status="building")
        return [row.id for row in rows if row.created_at < before]


def _end(services: Services, version_id: str) -> bool:
    """Whether nobody worked on the version; it has failed and its files are gone."""
    folder = services.settings.indexes_dir
    try:
        with both_locks(folder, version_id):
            # Looked at under the lock: the build may have come to its end since.
            with services.read() as session:
                if versions.get(session, version_id).status != "building":
                    return False
            shutil.rmtree(folder / version_id, ignore_errors=True)
            with services.write() as session:
                versions.set_status(session, version_id, "failed", error=ERROR)
    except (*_TAKEN, VersionNotFound):
        return False
    return True


@contextmanager
def both_locks(indexes_dir: Path, version_id: str) -> Iterator[None]:
    """Both locks of a version, for the block. Raises TimeoutError where another has one of them."""
    with ExitStack() as stack:
        lock = BuildLock(indexes_dir, version_id)
        lock.acquire(timeout_seconds=0)
        stack.callback(lock.release)
        stack.callback((indexes_dir / lock.name).unlink, missing_ok=True)
        if (indexes_dir / version_id).is_dir():
            writer = DirectoryLock(indexes_dir / version_id)
            writer.acquire(timeout_seconds=0)
            stack.callback(writer.release)
        yield


def unnamed(services: Services, *, older_than: timedelta = timedelta(0)) -> list[Path]:
    """The directories of versions that no row names and that were last changed so long ago."""
    before = time.time() - older_than.total_seconds()
    old = []
    for path in services.settings.indexes_dir.iterdir():
        with suppress(FileNotFoundError):
            if _VERSION.fullmatch(path.name) and path.is_dir() and path.stat().st_mtime <= before:
                old.append(path)
    with services.read() as session:
        named = {row.id for row in versions.list_all(session)} if old else set()
    return sorted(path for path in old if path.name not in named)


def remove_directory(path: Path) -> bool:
    """Whether no one worked on the version in this directory; it is gone."""
    try:
        with both_locks(path.parent, path.name):
            shutil.rmtree(path, ignore_errors=True)
    except _TAKEN:
        return False
    return True
