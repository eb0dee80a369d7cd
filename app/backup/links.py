"""The files of a backup, kept from being removed while it is written.

A backup reads one snapshot of the database, and meanwhile a deleted document's file may go. So each file that
the snapshot names gets a second name first. That takes a moment, in which files may be added and not removed;
afterwards both go on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import select

from app.db.tables import RevisionRow
from indexing.files import checkpoint, link_file
from indexing.locks import DirectoryLock

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.store import FileStore

HASHES_A_FETCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFiles:
    """Files under a second name, by hash; `missing` are named by the database and not there."""

    folder: Path
    n_files: int
    missing: tuple[str, ...]

    def paths(self) -> Iterator[Path]:
        """In the order of their hashes."""
        for group in sorted(path for path in self.folder.iterdir() if path.is_dir()):
            yield from sorted(group.iterdir())


@contextmanager
def kept_files(store: FileStore, session: Session) -> Iterator[KeptFiles]:
    """The files that the session's snapshot names; the session must not have read anything before."""
    folder = store.folder / "backup" / uuid4().hex
    folder.mkdir(parents=True)
    lock = DirectoryLock(folder)
    lock.acquire()
    try:
        yield _link(store, session, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _link(store: FileStore, session: Session, folder: Path) -> KeptFiles:
    statement = select(RevisionRow.content_hash).where(RevisionRow.status != "superseded").distinct()
    n_files, missing = 0, []
    # The first statement takes the snapshot: what it names is in the store for as long as the lock holds.
    with store.adding():
        for content_hash in session.scalars(statement.execution_options(yield_per=HASHES_A_FETCH)):
            target = folder / content_hash[:2] / content_hash
            target.parent.mkdir(exist_ok=True)
            try:
                link_file(store.path(content_hash), target)
            except FileNotFoundError:
                missing.append(content_hash)
            else:
                n_files += 1
    checkpoint("backup-linked")
    return KeptFiles(folder=folder, n_files=n_files, missing=tuple(missing))


def sweep(store: FileStore, older_than_seconds: float = 60.0) -> int:
    """Removes what killed backups have left; gives how many those were."""
    before, n_gone = time.time() - older_than_seconds, 0
    for folder in (store.folder / "backup").glob("*"):
        lock = DirectoryLock(folder)
        try:
            if folder.stat().st_mtime > before:
                continue
            lock.acquire(timeout_seconds=0)
        except (TimeoutError, FileNotFoundError):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        n_gone += 1
    return n_gone
