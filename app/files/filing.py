"""Files of this machine taken into a collection: `keep` the bytes, `work` until they are searchable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.db import collections, documents, jobs, versions
from app.db.errors import CollectionNotFound
from app.documents import intake
from app.errors import PayloadTooLarge
from app.files.folders import Trouble, open_file, source_of
from app.outages import STORAGE_FULL, is_storage_full
from app.store import StoredFile
from app.upkeep import repairing
from app.upkeep.upkeep import merge_served
from app.versions import following
from app.worker import Worker
from indexing.errors import IndexVersionError
from indexing.manifest import load_manifest

if TYPE_CHECKING:
    from app.services import Services

Say = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

FILES_A_TRANSACTION = 200
FILES_AT_ONCE = 8
"""A file is kept when the disk says so; waits side by side take the disk a twentieth of the time."""
MERGE_SECONDS = 5.0
"""How long a command merges segments after its documents; what is left is the next worker's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A file in the store; not `steady` where it changed while it was read, so may be half old, half new."""

    file: StoredFile
    modified_ns: int
    steady: bool


def ensure_collection(services: Services, name: str) -> int:
    """The id of a collection that a command names: it is made where it is not there; over HTTP it is not."""
    with services.write() as session:
        try:
            return collections.get_by_name(session, name).id
        except CollectionNotFound:
            return collections.create(session, name).id


def keep(services: Services, path: Path) -> Kept | Trouble:
    """The kept file, or why there is none. To be called within `store.adding`."""
    try:
        with open_file(path) as stream:
            before = os.fstat(stream.fileno())
            file = intake.keep_file(services, stream)
            after = os.fstat(stream.fileno())
    except PayloadTooLarge as error:
        return Trouble(source=source_of(path), code=error.code, detail=str(error))
    except OSError as error:
        code = STORAGE_FULL if is_storage_full(error) else "unreadable"
        return Trouble(source=source_of(path), code=code, detail=error.strerror or str(error))
    steady = (before.st_size, before.st_mtime_ns) == (file.n_bytes, after.st_mtime_ns)
    return Kept(file=file, modified_ns=before.st_mtime_ns, steady=steady)


def work(services: Services, document_ids: Collection[int], say: Say) -> None:
    """Works as a worker does until the documents are searchable or have failed, whoever did it."""

    def on_step() -> None:
        with services.read() as session:
            left = documents.n_unfinished(session, document_ids)
        say("ingest", len(document_ids) - left, len(document_ids))

    def is_done() -> bool:
        with services.read() as session:
            return jobs.n_live(session, document_ids) == 0

    say("ingest", 0, len(document_ids))
    _mend_what_is_ahead(services)
    worker = Worker(services, lanes=("ingest",))
    try:
        worker.drain(on_step, until=is_done)
    finally:
        worker.close()
    deadline = time.monotonic() + MERGE_SECONDS
    merge_served(services, lambda: time.monotonic() > deadline)


def _mend_what_is_ahead(services: Services) -> None:
    """Makes the served versions anew where one has seen changes that the database does not know.

    So it is where an older file was put in the place of the database. The numbers of those changes are about
    to be given again, to others, which such a version would take for seen.
    """
    with services.read() as session:
        owners = collections.list_all(session)
        served = [row for owner in owners if (row := versions.active(session, owner.id)) is not None]
    for row in served:
        try:
            following.pending(services, row, load_manifest(services.settings.indexes_dir / row.id).change)
        except IndexVersionError:
            repairing.mend_served(services)
            return
