"""Purging: no byte of what was deleted stays, in any version of the index, the database or the store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app import remains
from app.db import deletions, queue, versions, wiping
from app.documents import deleting
from app.ids import parse_id
from app.versions import nodes as node_indexes
from app.versions import retention
from indexing.errors import IndexingError
from indexing.files import checkpoint
from indexing.merging import merge_version

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """The deletions of which no byte is left, and what is in the way of more."""

    deletion_ids: tuple[str, ...]
    n_vectors: int
    database: str
    pending: tuple[str, ...]


def purge(services: Services, collection_id: int, stop: Callable[[], bool] = lambda: False) -> Purged:
    """Writes over every byte of what was deleted from a collection: in all its index versions, kept older
    ones as well, and in the database. Also of what was replaced. What is being built meanwhile is pending.
    """
    with services.read() as session:
        rows = deletions.unpurged(session, collection_id)
        kept = versions.list_all(session, collection_id=collection_id)
    removed = [(row.change_number, [parse_id(key, "document") for key in row.document_ids]) for row in rows]
    pending = [
        f"index version {version.id} is being built; purge again when it is done"
        for version in kept
        if version.status == "building"
    ]
    removals = deleting.remove_from_indexes(services, collection_id, removed)
    pending += [f"index version {item.version}: {item.pending}" for item in removals if item.pending]
    for item in removals:
        try:
            merge_version(deleting.directory_of(services, item.version), purge=True, stop=stop)
            node_indexes.purge(services, item.version, stop)
        except (IndexingError, OSError, TimeoutError) as error:
            pending.append(f"index version {item.version}: {error}")
    checkpoint("purge-merged")
    pending += remains.clear(services, collection_id, stop)
    with services.read() as session:
        in_hand = queue.in_hand(session, (key for _, document_ids in removed for key in document_ids))
    if in_hand:
        pending.append("a worker has deleted documents in hand; purge again in a moment")
    n_vectors = retention.forget_orphans(services, 0.0)
    wiped = wiping.wipe(services.engine)
    if not wiped.is_done:
        pending.append(wiped.detail)
    checkpoint("purge-wiped")
    done = () if pending or stop() else tuple(row.id for row in rows)
    with services.write() as session:
        deletions.mark_purged(session, done)
    logger.info("deletions purged", extra={"action": "deletions_purged", "n": len(done)})
    return Purged(deletion_ids=done, n_vectors=n_vectors, database=wiped.detail, pending=tuple(pending))
