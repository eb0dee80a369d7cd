"""Restoring a backup: loaded where nobody looks, checked to the end, switched in one step, then indexed.

Before the switch a process that is killed leaves the data as it was; after it, the new data. What may then be
missing is the index, which the same command makes when it is run again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import delete as delete_from
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app import belonging
from app.backup import targets
from app.backup.archive import Input
from app.backup.errors import TargetInUse, TargetNotEmpty
from app.backup.loading import Archive, NoFiles, load, open_archive
from app.backup.manifest import Manifest
from app.backup.targets import NOT_EMPTY, Staged, Target, sqlite_staging, target_of
from app.backup.writing import Say, back_up
from app.db import collections, jobs, queue, revisions, versions
from app.db.errors import VersionNotFound
from app.db.tables import CollectionRow, IndexVersionRow, JobRow
from app.db.types import utc_now
from app.documents.cancelling import CANCELLED, CANCELLED_DETAIL, note_failure
from app.store import FileStore
from app.upkeep import switching
from app.versions import building
from indexing.encoding.factory import EncoderSpec
from indexing.errors import IndexingError
from indexing.files import checkpoint, replace_file, sync
from indexing.locks import DirectoryLock

if TYPE_CHECKING:
    from app.services import Services
    from app.settings import Settings

HASHES_A_LOOK = 500
STAGED_FILES = "restoring"

OpenServices = Callable[[], AbstractContextManager["Services"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredIndex:
    """The index of a collection after a restore: `problem` says why it is missing, where it is."""

    collection: str
    version: str
    n_chunks: int
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did; `manifest` is None where an earlier one had come as far as the switch.

    `undo` is the backup of what was there before.
    """

    archive_id: str
    created_at: str
    manifest: Manifest | None
    indexes: tuple[RestoredIndex, ...]
    undo: Path | None
    seconds: float


class RestoreLock(DirectoryLock):
    """Held in the data folder by a restore."""

    name = ".restoring"


def verify(source: Input, folder: Path | None = None) -> Manifest:
    """What a backup holds, once all of it was read and loaded into a database that is thrown away.

    Raises ArchiveUnknown, ArchiveNewer, ArchiveDamaged. The folder is where that database is kept meanwhile.
    """
    with TemporaryDirectory(dir=folder, prefix="footnote-verify-") as scratch:
        archive = open_archive(source)
        with sqlite_staging(Path(scratch) / "footnote.db") as connection:
            return load(archive, connection, NoFiles())


def restore(
    settings: Settings,
    source: Input,
    *,
    open_services: OpenServices,
    replace: bool = False,
    index: bool = True,
    say: Say,
) -> Restored:
    """Puts a backup into an empty data folder and database, or with `replace` in the place of what is there.

    What is there is first written to a backup beside it. With `index` the served indexes are made anew.
    Raises TargetNotEmpty, TargetInUse and the errors of an archive; the data is as it was then.
    """
    started = time.perf_counter()
    with only_restore(settings.home):
        archive = open_archive(source)
        target = target_of(settings.database_url)
        is_empty = target.is_empty()
        manifest, undo = None, None
        if not is_empty and not replace and not _was_switched(settings, archive, target):
            raise TargetNotEmpty(NOT_EMPTY)
        if is_empty or replace:
            if not is_empty:
                undo = _keep(settings, open_services, say)
            manifest = _switch(settings, archive, target, open_services, is_empty=is_empty, replace=replace)
        with open_services() as services:
            with services.read() as session:
                belonging.settle(settings.home, belonging.identity(session))
            if replace:
                _remove_unnamed(services)
            indexes = tuple(rebuild_indexes(services, say)) if index else tuple(_missing(services))
        _marker(settings).unlink(missing_ok=True)
    return Restored(
        archive_id=archive.header.id,
        created_at=archive.header.created_at,
        manifest=manifest,
        indexes=indexes,
        undo=undo,
        seconds=time.perf_counter() - started,
    )


@contextmanager
def only_restore(home: Path) -> Iterator[None]:
    """Keeps restores into the folder away while the block runs. Raises TargetInUse where one is at work."""
    home.mkdir(parents=True, exist_ok=True)
    lock = RestoreLock(home)
    try:
        lock.acquire(timeout_seconds=0)
    except TimeoutError:
        raise TargetInUse(f"another process restores into {home}") from None
    try:
        yield
    finally:
        (home / lock.name).unlink(missing_ok=True)
        lock.release()


def forget_staged(settings: Settings) -> None:
    """Removes what killed restores have left beside the data; to be called within `only_restore`."""
    shutil.rmtree(settings.files_dir / STAGED_FILES, ignore_errors=True)
    targets.forget_staged(settings.database_url)


def _marker(settings: Settings) -> Path:
    """Says, from before the switch until the end, what is being put there."""
    return settings.home / "restoring.json"


def _was_switched(settings: Settings, archive: Archive, target: Target) -> bool:
    """Whether an earlier restore of this backup was killed after its switch."""
    try:
        marker = json.loads(_marker(settings).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return bool(marker == {"archive": archive.header.id, "identity": target.identity()})


def _keep(settings: Settings, open_services: OpenServices, say: Say) -> Path:
    """A backup of the present data."""
    stamp = utc_now().strftime("%Y%m%d-%H%M%S")
    path = settings.home / f"replaced-{stamp}-{uuid4().hex[:4]}.tar"
    with open_services() as services:
        back_up(services, path, say=lambda stage, done, total: say(f"keep {stage}", done, total))
    checkpoint("restore-kept")
    return path


def _switch(
    settings: Settings,
    archive: Archive,
    target: Target,
    open_services: OpenServices,
    *,
    is_empty: bool,
    replace: bool,
) -> Manifest:
    with target.staging() as staged, _StagedFiles.at(FileStore(settings.files_dir)) as files:
        manifest = load(archive, staged.connection, files)
        own = _settle(staged)
        if is_empty:
            _check_folder(settings, own, open_services)
        checkpoint("restore-loaded")
        belonging.announce(settings.home, settings.files_dir, own)
        files.place()
        marker = {"archive": archive.header.id, "identity": staged.identity}
        replace_file(_marker(settings), json.dumps(marker).encode())
        checkpoint("restore-switching")
        try:
            staged.switch(replace=replace)
        except BaseException:
            _marker(settings).unlink()
            raise
    checkpoint("restore-switched")
    return manifest


@dataclass(frozen=True, slots=True)
class _StagedFiles:
    """Files beside those of the store until all of them are known to be right."""

    store: FileStore
    folder: Path

    @classmethod
    @contextmanager
    def at(cls, store: FileStore) -> Iterator[_StagedFiles]:
        folder = store.folder / STAGED_FILES
        shutil.rmtree(folder, ignore_errors=True)  # what a killed restore has left
        folder.mkdir(parents=True)
        try:
            yield cls(store, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, content_hash: str, pieces: Iterator[bytes]) -> None:
        path = self.folder / content_hash[:2] / content_hash
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as out:
            for piece in pieces:
                out.write(piece)

    def place(self) -> None:
        """Moves the files into the store; on return they are on disk.

        One sync of the whole system before and one after: one for each file would take minutes.
        """
        os.sync()
        for group in sorted(self.folder.iterdir()):
            final = self.store.folder / group.name
            final.mkdir(exist_ok=True)
            for path in group.iterdir():
                path.rename(final / path.name)
                checkpoint("restore-placed")
            sync(final)
        os.sync()


def _check_folder(settings: Settings, own: str, open_services: OpenServices) -> None:
    """Raises Conflict where the folder has the files of a database that is neither the one to be restored nor
    the empty one at its place. One with data was opened before, to keep that, which says so too."""
    named = belonging.names(settings.home)
    if named and own not in named and belonging.has_files(settings.files_dir):
        with open_services():
            pass


def _settle(staged: Staged) -> str:
    """What was in work when the backup was made waits again, and no index is there yet.

    Gives what tells this database from others.
    """
    with Session(staged.connection, join_transaction_mode="create_savepoint") as session:
        for worker in session.scalars(select(JobRow.worker).where(JobRow.status == "doing").distinct()).all():
            released = queue.release_worker(session, worker or "")
            for job_id in released.cancelled:
                note_failure(session, jobs.get(session, job_id), CANCELLED, CANCELLED_DETAIL)
        served = set(session.scalars(select(CollectionRow.active_version_id)).all())
        session.execute(delete_from(IndexVersionRow).where(IndexVersionRow.id.not_in(served - {None})))
        for version_id in served - {None}:
            _rename_version(session, str(version_id))
        session.commit()
        return belonging.identity(session)


def _rename_version(session: Session, version_id: str) -> None:
    """A new id: this database may have a directory of the old one, with another content."""
    new_id = uuid4().hex
    session.execute(
        update(IndexVersionRow)
        .where(IndexVersionRow.id == version_id)
        .values(id=new_id, directory=new_id)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(CollectionRow)
        .where(CollectionRow.active_version_id == version_id)
        .values(active_version_id=new_id)
        .execution_options(synchronize_session=False)
    )


def _remove_unnamed(services: Services) -> None:
    """Removes the files of the data that was replaced; the backup of it has them."""
    with services.store.removing(), services.read() as session:
        for group in services.store.folder.glob("[0-9a-f][0-9a-f]"):
            names = sorted(path.name for path in group.iterdir())
            for start in range(0, len(names), HASHES_A_LOOK):
                for content_hash in revisions.unreferenced(session, names[start : start + HASHES_A_LOOK]):
                    services.store.remove(content_hash)


def _served(services: Services) -> list[tuple[str, IndexVersionRow]]:
    with services.read() as session:
        found = [(row.name, versions.active(session, row.id)) for row in collections.list_all(session)]
    return [(name, row) for name, row in found if row is not None]


def _missing(services: Services) -> Iterator[RestoredIndex]:
    for name, row in _served(services):
        yield _unbuilt(name, row, "it was not asked for")


def rebuild_indexes(services: Services, say: Say) -> Iterator[RestoredIndex]:
    """The served versions, made from the vectors of the backup and verified."""
    for name, row in _served(services):
        if (services.settings.indexes_dir / row.id).is_dir():
            yield RestoredIndex(collection=name, version=row.id, n_chunks=row.n_chunks)
            continue
        try:
            encoder = services.encoders.get(EncoderSpec(**row.encoder_spec))
            if encoder.fingerprint != row.encoder_fingerprint:
                yield _unbuilt(name, row, "the encoder here is another one, which has no vectors yet")
                continue
            made = building.rebuild(services, row, progress=say)
            switching.replace(services, made.id)
        except (IndexingError, TypeError, OSError) as error:
            yield _unbuilt(name, row, f"{error}")
            continue
        checkpoint("restore-indexed")
        with services.write() as session, suppress(VersionNotFound):
            versions.delete(session, row.id)
        yield RestoredIndex(collection=name, version=made.id, n_chunks=made.n_chunks)


def _unbuilt(name: str, row: IndexVersionRow, why: str) -> RestoredIndex:
    problem = f"{why}; `footnote index rebuild --collection {name}` makes the index"
    return RestoredIndex(collection=name, version=row.id, n_chunks=0, problem=problem)
