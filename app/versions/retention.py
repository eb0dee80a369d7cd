"""Which index versions are kept: the one that is served, some ready ones to go back to, and no others."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from app.db import collections, leftovers, versions
from app.db.errors import VersionActive, VersionNotFound
from app.db.tables import IndexVersionRow
from app.errors import Conflict
from app.versions import abandoned
from indexing.files import checkpoint

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)


def superfluous(services: Services, collection_id: int, keep: int | None = None) -> Sequence[IndexVersionRow]:
    """The versions that are to go, the oldest last.

    Kept are the one that is served, and `keep` ready ones beside it: first the one to go back to, then those
    that were served or made last. Where `keep` is not given, it is as set, and the newest version is kept if
    it was made since the last switch: it waits to be served. Whatever is being built is kept, and of the
    failed ones those newer than every ready one: as long as no later build went well.
    """
    n_kept = services.settings.index.keep_versions if keep is None else keep
    with services.read() as session:
        active = versions.active(session, collection_id)
        previous = versions.previous(session, collection_id)
        rows = versions.list_all(session, collection_id=collection_id)
    ready = [row for row in rows if row.status == "ready" and row is not active]
    ready.sort(key=lambda row: (row is previous, row.activated_at or row.created_at, row.id), reverse=True)
    gone = {row.id for row in ready[n_kept:]}
    newest = max((row.created_at for row in rows if row.status == "ready"), default=None)
    gone |= {row.id for row in rows if row.status == "failed" and newest and row.created_at < newest}
    if keep is None and active is not None and active.activated_at is not None:
        gone -= {row.id for row in ready if row.created_at == newest and newest > active.activated_at}
    return [row for row in rows if row.id in gone]


def prune(services: Services, collection_id: int, keep: int | None = None) -> list[str]:
    """Removes what is superfluous; gives the ids. What someone works on stays until the next time."""
    gone = [row.id for row in superfluous(services, collection_id, keep) if _removed(services, row.id)]
    if gone:
        logger.info("index versions removed", extra={"action": "index_prune", "versions": gone})
    return gone


def delete(services: Services, version_id: str) -> None:
    """Removes one version. Raises VersionNotFound, VersionActive, and Conflict while someone works on it."""
    with services.read() as session:
        row = versions.get(session, version_id)
        if collections.get(session, row.collection_id).active_version_id == version_id:
            raise VersionActive("the version is served; activate another one first")
    if not _removed(services, version_id):
        raise Conflict("The version is being worked on; try again in a moment.", code="index_version_busy")


def tidy(services: Services, collection_id: int, stop: Callable[[], bool] = lambda: False) -> None:
    """Forgets the changes that every version has, and the chunks of chunkers that none uses, bite by bite."""
    forget_changes(services, collection_id)
    with services.read() as session:
        unused = leftovers.unused_chunkers(session, collection_id)
    for chunker in unused:
        while not stop() and _forget_some_chunks(services, collection_id, chunker):
            pass


def forget_changes(services: Services, collection_id: int) -> int:
    """Drops from the log of changes what every version has applied; how many went."""
    with services.read() as session:
        rows = versions.list_all(session, collection_id=collection_id)
    reached = [row.change_number for row in rows if row.status in ("ready", "building")]
    if not reached:
        return 0
    with services.write() as session:
        return collections.forget_changes(session, collection_id, min(reached))


def forget_orphans(services: Services, grace_seconds: float, stop: Callable[[], bool] = lambda: False) -> int:
    """Drops kept vectors of texts that no chunk has, bite by bite; how many went."""
    n_gone, after = 0, ("", "")
    while not stop():
        with services.read() as session:
            keys = leftovers.orphan_vectors(session, grace_seconds=grace_seconds, after=after)
        if not keys:
            break
        with services.write() as session:
            n_gone += leftovers.forget_vectors(session, keys)
        after = keys[-1]
    return n_gone


def _forget_some_chunks(services: Services, collection_id: int, chunker: str) -> bool:
    with services.write() as session:
        # A build that begins now waits for this, and so sees that its documents have no chunks yet.
        collections.lock(session, collection_id)
        if chunker not in leftovers.unused_chunkers(session, collection_id):
            return False
        return leftovers.forget_chunks(session, collection_id, chunker) > 0


def _removed(services: Services, version_id: str) -> bool:
    """Whether the version is gone: its row first, so that a kill leaves a directory that no row names."""
    directory = services.settings.indexes_dir / version_id
    try:
        with abandoned.both_locks(directory.parent, version_id):
            with services.write() as session:
                versions.delete(session, version_id)
            checkpoint("version-forgotten")
            services.indexes.forget(version_id)
            shutil.rmtree(directory, ignore_errors=True)
            checkpoint("version-removed")
    except (TimeoutError, VersionActive, VersionNotFound):
        return False
    return True
