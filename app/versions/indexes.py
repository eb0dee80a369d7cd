"""The index versions that this process reads: each with its snapshot, its encoder and its retrievers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.db import chunks, expansions, nodes, versions
from app.db.errors import DatabaseError
from app.versions.snapshots import nodes_name
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec
from indexing.errors import IndexingError, IndexMissing
from indexing.nodes import NODE_KINDS, NodeId, NodeKind
from indexing.snapshot import Snapshot
from indexing.types import ChunkId, Ids
from retrievers.base import Retriever
from retrievers.modes import MODES, Resources, Tuning
from retrievers.nodes import Nodes
from retrievers.rank_bm25 import RankBm25Retriever
from retrievers.tree import TreeTuning

if TYPE_CHECKING:
    from app.db.engine import OpenSession
    from app.encoders import EncoderPool, SparseEncoders
    from app.settings import SearchSettings
    from app.versions.snapshots import SnapshotCache
    from retrievers.types import Mode

logger = logging.getLogger(__name__)

TUNED = {"alpha", "rrf_k", "candidate_k", "funnel_dim", "funnel_steps"}
"""The settings of a search that retrievers are made with."""

Texts = Iterator[tuple[int, int, str]]
"""(chunk id, document id, contextual text) of every chunk of an index."""


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """One immutable view of a collection's index, for one request."""

    snapshot: Snapshot
    encoder: Encoder
    resources: Resources

    @property
    def nodes(self) -> Nodes:
        """The nodes over the chunks, opened when they are asked for."""
        return self.resources.nodes

    def retriever(self, mode: Mode) -> Retriever:
        return MODES[mode].build(self.resources)


class Indexes:
    """Opens index versions by id, and says which one to answer from."""

    def __init__(
        self,
        read: OpenSession,
        snapshots: SnapshotCache,
        encoders: EncoderPool,
        sparse_encoders: SparseEncoders,
        settings: SearchSettings,
    ) -> None:
        self._read = read
        self._snapshots = snapshots
        self._encoders = encoders
        self._sparse_encoders = sparse_encoders
        self._settings = settings
        self._facts: dict[str, tuple[EncoderSpec, str, str]] = {}
        self._rank_bm25: dict[str, tuple[int, Retriever]] = {}
        self._lock = threading.Lock()
        self._served: dict[int, str] = {}
        self._tried: set[str] = set()
        self._being_opened: set[str] = set()

    def open(self, version_id: str) -> OpenIndex:
        """The newest snapshot of a version, with the encoder it was built with.

        Raises VersionNotFound, EncoderError, and IndexVersionError when the files are missing, damaged or of
        another encoder than this process can load.
        """
        spec, _, chunker = self._facts_of(version_id)
        encoder = self._encoders.get(spec)
        snapshot = self._snapshots.get(version_id, encoder.fingerprint)
        self._tried.add(version_id)
        resources = Resources(
            snapshot=snapshot,
            texts=self._texts,
            rank_bm25=lambda: self._in_memory(version_id, chunker, snapshot),
            sparse=lambda: self._sparse_encoders.of_version(snapshot.manifest.spec),
            nodes=self._nodes(version_id, encoder.fingerprint),
            tuning=tuning_of(self._settings),
        )
        return OpenIndex(snapshot, encoder, resources)

    def serving(self, collection_id: int, version_id: str) -> OpenIndex:
        """The version of a collection that is to be served; while this process opens it for the first time,
        the one that it served before: no request waits for files and models. Raises as `open` does.
        """
        before = self._served.get(collection_id)
        if before is not None and version_id != before and version_id not in self._tried:
            try:
                index = self.open(before)
            except (DatabaseError, IndexingError):
                pass  # it cannot answer any more: the request waits
            else:
                self._open_aside(version_id)
                return index
        index = self.open(version_id)
        if version_id != before:
            self._served[collection_id] = version_id
            self._forget_gone()
        return index

    def warm(self) -> None:
        """Opens every version that is served, so that the first request to it does not wait."""
        with self._read() as session:
            served = [versions.get(session, version_id) for version_id in versions.served(session)]
        for row in served:
            try:
                self.serving(row.collection_id, row.id)
            except (DatabaseError, IndexingError):
                logger.exception("index not usable", extra={"action": "index_error", "version": row.id})

    def forget(self, version_id: str) -> None:
        """Lets go of a version that is gone, or no longer served; requests that have it keep it."""
        with self._lock:
            self._facts.pop(version_id, None)
            self._rank_bm25.pop(version_id, None)
            self._tried.discard(version_id)
        self._snapshots.forget(version_id)
        for kind in NODE_KINDS:
            self._snapshots.forget(nodes_name(version_id, kind))

    def _forget_gone(self) -> None:
        """Lets go of versions that another process has removed."""
        with self._read() as session:
            present = {row.id for row in versions.list_all(session)}
        for version_id in self._facts.keys() - present:
            self.forget(version_id)

    def _open_aside(self, version_id: str) -> None:
        with self._lock:
            if version_id in self._being_opened:
                return
            self._being_opened.add(version_id)
        name = f"open-{version_id[:8]}"
        threading.Thread(target=self._try_to_open, args=(version_id,), name=name, daemon=True).start()

    def _try_to_open(self, version_id: str) -> None:
        """Opens a version; where it cannot be, the next request tries for itself and says why."""
        try:
            self.open(version_id)
        except Exception:
            logger.exception("index not usable", extra={"action": "index_error", "version": version_id})
        finally:
            with self._lock:
                self._tried.add(version_id)
                self._being_opened.discard(version_id)

    def _texts(self, chunk_ids: Sequence[ChunkId]) -> list[str]:
        """The contextual text of each chunk; "" for one that is gone."""
        with self._read() as session:
            rows = chunks.load_passages(session, chunk_ids)
        return [rows[key].chunk.contextual_text if key in rows else "" for key in chunk_ids]

    def _nodes(self, version_id: str, fingerprint: str) -> Nodes:
        def opened(kind: NodeKind) -> Snapshot | None:
            try:
                return self._snapshots.get(nodes_name(version_id, kind), fingerprint)
            except IndexMissing:
                return None

        def roots(kind: NodeKind) -> Ids:
            with self._read() as session:
                row = versions.get(session, version_id)
                return nodes.roots(session, row.collection_id, row.chunker_fingerprint, kind)

        return Nodes(
            open=opened, leaves=self._leaves, children=self._children, roots=roots, heads=self._heads
        )

    def _leaves(self, node_ids: Sequence[int]) -> dict[int, Ids]:
        with self._read() as session:
            return nodes.leaves(session, node_ids)

    def _children(self, node_ids: Sequence[int]) -> dict[int, tuple[list[ChunkId], list[NodeId]]]:
        with self._read() as session:
            return nodes.children(session, node_ids)

    def _heads(self, kind: NodeKind, chunk_ids: Sequence[int]) -> dict[int, list[NodeId]]:
        with self._read() as session:
            return expansions.heads_of(session, kind, chunk_ids)

    def _facts_of(self, version_id: str) -> tuple[EncoderSpec, str, str]:
        """What never changes of a version: encoder, its fingerprint, and the chunker's."""
        facts = self._facts.get(version_id)
        if facts is None:
            with self._read() as session:
                row = versions.get(session, version_id)
            facts = (EncoderSpec(**row.encoder_spec), row.encoder_fingerprint, row.chunker_fingerprint)
            self._facts[version_id] = facts
        return facts

    def _in_memory(self, version_id: str, chunker: str, snapshot: Snapshot) -> Retriever:
        """The rank-bm25 retriever: made from the database, since it has no index on disk, and kept."""
        # A deletion takes its rows out before the change number follows, so that tells too little.
        commit = snapshot.manifest.commit
        with self._lock:
            kept = self._rank_bm25.get(version_id)
            if kept is None or kept[0] != commit:
                with self._read() as session:
                    collection_id = versions.get(session, version_id).collection_id
                    texts = chunks.iterate_texts(session, collection_id, chunker)
                    kept = (commit, RankBm25Retriever(texts))
                self._rank_bm25[version_id] = kept
            return kept[1]


def tuning_of(settings: SearchSettings) -> Tuning:
    """What is set of retrieval."""
    tree = TreeTuning(
        budget_tokens=settings.tree_tokens,
        leaves=settings.tree_leaves,
        weight=settings.tree_weight,
        k=settings.tree_k,
    )
    return Tuning(**settings.model_dump(include=TUNED), tree=tree)
