"""The indexes of nodes beside an index version: made, followed, checked, made anew.

`<version>/nodes/<kind>` is an index of its own, made with the version's encoder, whose rows are nodes. What
is in it is told by the ids alone, since an id stands for its text: to follow, ids that the database no
longer has are taken out, and new ones are put in.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.db import node_texts, nodes, versions
from app.db.chunks import ChunkText
from app.db.dialects import in_batches
from app.db.tables import IndexVersionRow
from app.versions.preparing import vectors_of
from app.versions.snapshots import nodes_name
from indexing.encoding.base import Progress
from indexing.encoding.factory import EncoderSpec
from indexing.errors import IndexMissing, IndexVersionError
from indexing.files import checkpoint
from indexing.manifest import NAME as MANIFEST
from indexing.manifest import VersionSpec
from indexing.merging import merge_version
from indexing.nodes import NODE_KINDS, NodeKind
from indexing.snapshot import Snapshot
from indexing.types import Ids
from indexing.verification import verify_version
from indexing.version import NODES_NAME, VersionWriter, create_version

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)

NODES_A_BATCH = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The nodes of a kind that only the database has, and those that only the index has, sorted."""

    lost: Ids
    extra: Ids

    @property
    def is_none(self) -> bool:
        return not len(self.lost) and not len(self.extra)


def directory_of(services: Services, version_id: str, kind: NodeKind) -> Path:
    return services.settings.indexes_dir / nodes_name(version_id, kind)


def present(services: Services, version_id: str) -> Iterator[tuple[NodeKind, Path]]:
    """The kinds of which a version has an index, and where. A folder without a manifest is none: it is what
    a process left that was killed, and the next to follow makes an index of it."""
    for kind in NODE_KINDS:
        directory = directory_of(services, version_id, kind)
        if (directory / MANIFEST).exists():
            yield kind, directory


def follow(services: Services, row: IndexVersionRow, progress: Progress | None = None) -> int:
    """Brings the node indexes of a version to what the database has; how many rows came or went.

    What has no kept vector is encoded. An index that cannot be read is made anew.
    """
    return sum(_follow(services, row, kind, progress) for kind in NODE_KINDS)


def take_out(services: Services, version_id: str, *, timeout_seconds: float | None = None) -> int:
    """Takes what the database no longer has out of the node indexes of a version; how many rows went.

    Encodes nothing. Raises TimeoutError while another process writes to one, IndexVersionError and OSError.
    """
    n_gone = 0
    with services.read() as session:
        row = versions.get(session, version_id)
    for kind, directory in present(services, version_id):
        extra = difference(services, row, kind).extra
        if not len(extra):
            continue
        with VersionWriter(directory, timeout_seconds=timeout_seconds) as writer:
            before = writer.manifest.n_chunks
            with writer.commit(change=writer.manifest.change) as commit:
                commit.remove_chunks(extra)
            n_gone += before - writer.manifest.n_chunks
    return n_gone


def difference(services: Services, row: IndexVersionRow, kind: NodeKind) -> Difference:
    """How the index of a kind differs from the database. Raises IndexVersionError where it is unreadable."""
    of_kind = (row.collection_id, row.chunker_fingerprint, kind)
    with services.read() as session:
        signature = nodes.signature(session, *of_kind)
    try:
        with Snapshot.open(directory_of(services, row.id, kind)) as snapshot:
            indexed = snapshot.chunk_ids()
    except IndexMissing:
        indexed = np.empty(0, dtype=np.int64)
    if signature == (len(indexed), int((indexed % nodes.SIGNATURE_PRIME).sum())):
        return Difference(lost=indexed[:0], extra=indexed[:0])
    with services.read() as session:
        wanted = nodes.ids(session, *of_kind)
    return Difference(
        lost=np.setdiff1d(wanted, indexed, assume_unique=True),
        extra=np.setdiff1d(indexed, wanted, assume_unique=True),
    )


def _follow(services: Services, row: IndexVersionRow, kind: NodeKind, progress: Progress | None) -> int:
    directory = directory_of(services, row.id, kind)
    try:
        found = difference(services, row, kind)
        if found.is_none:
            return 0
        create_version(directory, _spec(row))
    except (IndexVersionError, ValueError):
        logger.warning("index of nodes made anew", extra={"action": "nodes_anew", "version": row.id})
        shutil.rmtree(directory, ignore_errors=True)
        create_version(directory, _spec(row))
    with VersionWriter(directory) as writer:
        # Looked at again under the lock: another may have followed meanwhile.
        found = difference(services, row, kind)
        if found.is_none:
            return 0
        with writer.commit(change=writer.manifest.change) as commit:
            commit.remove_chunks(found.extra)
            done = 0
            for batch in _entries(services, row, found.lost):
                encoder = services.encoders.get(EncoderSpec(**row.encoder_spec))
                commit.add(
                    chunk_ids=np.asarray([entry.chunk_id for entry in batch], dtype=np.int64),
                    document_ids=np.asarray([entry.document_id for entry in batch], dtype=np.int64),
                    texts=[entry.text for entry in batch],
                    vectors=vectors_of(services, encoder, batch),
                )
                done += len(batch)
                if progress is not None:
                    progress(done, len(found.lost))
    checkpoint("nodes-indexed")
    logger.info(
        "nodes indexed",
        extra={
            "action": "nodes_indexed",
            "version": row.id,
            "kind": kind,
            "n_added": len(found.lost),
            "n_removed": len(found.extra),
        },
    )
    return len(found.lost) + len(found.extra)


def _entries(services: Services, row: IndexVersionRow, node_ids: Ids) -> Iterator[list[ChunkText]]:
    for batch in in_batches(node_ids.tolist(), NODES_A_BATCH):
        with services.read() as session:
            entries = list(node_texts.of_nodes(session, batch, row.encoder_fingerprint))
        if entries:
            yield entries


def remove(services: Services, version_id: str) -> None:
    """Removes the node indexes of a version; `follow` makes them anew."""
    for kind in NODE_KINDS:
        services.snapshots.forget(nodes_name(version_id, kind))
        shutil.rmtree(directory_of(services, version_id, kind), ignore_errors=True)


def purge(services: Services, version_id: str, stop: Callable[[], bool] = lambda: False) -> None:
    """Writes the node indexes of a version anew, so that no byte of what went stays, also of an index whose
    removal was cut short."""
    with services.read() as session:
        row = versions.get(session, version_id)
    for kind in NODE_KINDS:
        directory = directory_of(services, version_id, kind)
        if not directory.is_dir():
            continue
        if not (directory / MANIFEST).exists():
            create_version(directory, _spec(row))
        merge_version(directory, purge=True, stop=stop)


def problems(services: Services, row: IndexVersionRow, *, ids: bool = True) -> Iterator[tuple[str, str]]:
    """What is wrong with the node indexes of a version: where, and what; with `ids`, also against the
    database."""
    indexed = dict(present(services, row.id))
    for kind in NODE_KINDS:
        found = verify_version(indexed[kind]) if kind in indexed else []
        yield from ((f"{NODES_NAME}/{kind}/{item.path}", item.detail) for item in found)
        if found or not ids:
            continue
        differing = difference(services, row, kind)
        if len(differing.lost):
            yield f"{NODES_NAME}/{kind}", f"{len(differing.lost)} nodes of the database are not in the index."
        if len(differing.extra):
            yield f"{NODES_NAME}/{kind}", f"{len(differing.extra)} nodes of the index are gone."


def _spec(row: IndexVersionRow) -> VersionSpec:
    return VersionSpec(
        version=row.id,
        encoder_name=row.encoder_name,
        encoder_fingerprint=row.encoder_fingerprint,
        dim=row.dim,
        chunker_fingerprint=row.chunker_fingerprint,
    )
