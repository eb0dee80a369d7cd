"""Searching one collection: snapshot → filter → encode → retrieve → authorise and load."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.db import chunks, collections, filters, versions
from app.db.errors import VersionNotFound
from indexing.errors import IndexDamaged, IndexMissing
from indexing.types import ChunkId
from retrievers.base import Retriever
from retrievers.types import Hit, Mode, Passage, Query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from app.db.tables import CollectionRow
    from app.indexes import OpenIndex
    from app.services import Services

MARGIN = 8
"""Hits fetched beyond `top_k`, for those whose chunk went since the snapshot was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    query: str
    collection: str = "default"
    top_k: int = 10
    mode: Mode | None = None
    filters: Mapping[str, Any] | None = None
    explain: bool = False
    index_version: str | None = None
    """The version to search, with its own encoder; None: the one that is served."""


@dataclass(slots=True)
class Timings:
    """Milliseconds of each stage, in the order of the stages."""

    ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.ms[name] = self.ms.get(name, 0.0) + (time.perf_counter() - started) * 1000

    def rounded(self) -> dict[str, float]:
        return {name: round(ms, 3) for name, ms in self.ms.items()} | {
            "total": round(sum(self.ms.values()), 3)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    query: str
    mode: Mode
    index_version: str | None
    passages: tuple[Passage, ...]
    timings_ms: Mapping[str, float]
    bm25_terms: Mapping[ChunkId, Mapping[str, float]] = field(default_factory=dict)
    """When asked to explain: what each term adds to a passage's BM25 score; the parts sum to it."""


def search(services: Services, request: SearchRequest) -> SearchResult:
    """The best passages for a query, each loaded from the database before it is shown.

    Raises CollectionNotFound, VersionNotFound, FilterError, and IndexVersionError when the index cannot be
    read.
    """
    timings = Timings()
    mode = request.mode or services.settings.search.mode
    with timings.stage("filter"), services.read() as session:
        collection = collections.get_by_name(session, request.collection)
        version_id = _version(session, collection, request.index_version)
        allowed = (
            filters.allowed_documents(session, collection.id, request.filters) if request.filters else None
        )
    if version_id is None or (allowed is not None and len(allowed) == 0):
        return SearchResult(
            query=request.query,
            mode=mode,
            index_version=version_id,
            passages=(),
            timings_ms=timings.rounded(),
        )
    with timings.stage("open"):
        index = _open(services, request, collection.id, version_id)
    with timings.stage("encode"):
        vector = (
            None
            if mode in ("bm25", "rank_bm25")
            else index.encoder.encode_queries([request.query]).vectors[0]
        )
    query = Query(text=request.query, allowed_documents=allowed, vector=vector)
    retriever = index.retriever(mode)
    wanted = request.top_k + MARGIN
    while True:
        with timings.stage("retrieve"):
            hits = _retrieve(retriever, query, wanted)
        with timings.stage("load"):
            passages = load_passages(services, collection.id, hits)
        if len(passages) >= request.top_k or len(hits) < wanted:
            break
        wanted *= 2  # chunks of the snapshot were deleted meanwhile: look further down
    passages = passages[: request.top_k]
    terms = {}
    if request.explain:
        with timings.stage("explain"):
            ids = [passage.chunk.id for passage in passages]
            terms = {key: index.snapshot.lexical.contributions(request.query, key) for key in ids}
    return SearchResult(
        query=request.query,
        mode=mode,
        index_version=index.snapshot.manifest.spec.version,
        passages=passages,
        timings_ms=timings.rounded(),
        bm25_terms=terms,
    )


def _version(session: Session, collection: CollectionRow, wanted: str | None) -> str | None:
    """The version to be searched: the one asked for, if it is one of this collection."""
    if wanted is None:
        return collection.active_version_id
    if versions.get(session, wanted).collection_id != collection.id:
        raise VersionNotFound(f"the index version {wanted!r} is of another collection")
    return wanted


def _open(services: Services, request: SearchRequest, collection_id: int, version_id: str) -> OpenIndex:
    if request.index_version is not None:
        return services.indexes.open(version_id)
    try:
        return services.indexes.serving(collection_id, version_id)
    except (IndexMissing, VersionNotFound):
        # Since the request began, another version may have been switched to and this one removed.
        with services.read() as session:
            served = collections.get(session, collection_id).active_version_id
        if served is None or served == version_id:
            raise
        return services.indexes.serving(collection_id, served)


def _retrieve(retriever: Retriever, query: Query, top_k: int) -> list[Hit]:
    """The hits; raises IndexDamaged where the files give what no sound index gives."""
    try:
        return retriever.retrieve([query], top_k)[0]
    except (IndexError, KeyError, ValueError, RuntimeError) as error:
        raise IndexDamaged(f"The index cannot be searched: {type(error).__name__}: {error}") from error


def load_passages(services: Services, collection_id: int, hits: Sequence[Hit]) -> tuple[Passage, ...]:
    """The hits whose chunk is (still) in the collection, ranked anew from 1."""
    with services.read() as session:
        rows = chunks.load_passages(session, [hit.chunk_id for hit in hits], collection_id=collection_id)
    found = [(hit, rows[hit.chunk_id]) for hit in hits if hit.chunk_id in rows]
    return tuple(
        Passage(
            chunk=row.chunk,
            score=hit.score,
            rank=rank,
            title=row.title,
            source=row.source,
            scores=hit.scores,
        )
        for rank, (hit, row) in enumerate(found, start=1)
    )
