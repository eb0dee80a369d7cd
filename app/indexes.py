"""The index versions that this process reads: each with its snapshot, its encoder and its retrievers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.db import chunks, versions
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec
from indexing.snapshot import Snapshot
from retrievers.base import Retriever
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever
from retrievers.hybrid import HybridRetriever
from retrievers.rank_bm25 import RankBm25Retriever

if TYPE_CHECKING:
    from app.db.engine import OpenSession
    from app.encoders import EncoderPool
    from app.settings import SearchSettings
    from app.snapshots import SnapshotCache
    from retrievers.types import Mode

Texts = Iterator[tuple[int, int, str]]
"""(chunk id, document id, contextual text) of every chunk of an index."""


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """One immutable view of a collection's index, for one request."""

    snapshot: Snapshot
    encoder: Encoder
    _settings: SearchSettings
    _rank_bm25: Callable[[], Retriever]

    def retriever(self, mode: Mode) -> Retriever:
        settings = self._settings
        match mode:
            case "bm25":
                return Bm25Retriever(self.snapshot)
            case "rank_bm25":
                return self._rank_bm25()
            case "dense":
                return DenseRetriever(self.snapshot)
            case "rrf":
                return HybridRetriever(
                    self.snapshot, method="rrf", rrf_k=settings.rrf_k, candidate_k=settings.candidate_k
                )
            case "auto" | "hybrid":
                return HybridRetriever(
                    self.snapshot, method="convex", alpha=settings.alpha, candidate_k=settings.candidate_k
                )


class Indexes:
    """Opens index versions by id."""

    def __init__(
        self, read: OpenSession, snapshots: SnapshotCache, encoders: EncoderPool, settings: SearchSettings
    ) -> None:
        self._read = read
        self._snapshots = snapshots
        self._encoders = encoders
        self._settings = settings
        self._facts: dict[str, tuple[EncoderSpec, str, str]] = {}
        self._rank_bm25: dict[str, tuple[int, Retriever]] = {}
        self._lock = threading.Lock()

    def open(self, version_id: str) -> OpenIndex:
        """The newest snapshot of a version, with the encoder it was built with.

        Raises VersionNotFound, EncoderError, and IndexVersionError when the files are missing, damaged or of
        another encoder than this process can load.
        """
        spec, _, chunker = self._facts_of(version_id)
        encoder = self._encoders.get(spec)
        snapshot = self._snapshots.get(version_id, encoder.fingerprint)
        return OpenIndex(
            snapshot, encoder, self._settings, lambda: self._in_memory(version_id, chunker, snapshot)
        )

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
        change = snapshot.manifest.change
        with self._lock:
            kept = self._rank_bm25.get(version_id)
            if kept is None or kept[0] != change:
                with self._read() as session:
                    collection_id = versions.get(session, version_id).collection_id
                    texts = chunks.iterate_texts(session, collection_id, chunker)
                    kept = (change, RankBm25Retriever(texts))
                self._rank_bm25[version_id] = kept
            return kept[1]
