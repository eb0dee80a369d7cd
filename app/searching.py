"""Searching one collection: snapshot → filter → encode → retrieve → authorise and load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.db import chunks, collections, filters, versions
from app.db.errors import VersionNotFound
from app.rerankers import RerankParts, reranker
from app.transformations import transformation
from indexing.errors import IndexMissing
from indexing.types import ChunkId
from retrievers.modes import MODES
from retrievers.pipeline import Pipeline
from retrievers.timings import Timings
from retrievers.transformation.base import Transformed
from retrievers.types import Hit, Mode, Passage, Query

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.db.tables import CollectionRow
    from app.indexes import OpenIndex
    from app.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    query: str
    collection: str = "default"
    top_k: int = 10
    mode: Mode | None = None
    filters: Mapping[str, Any] | None = None
    transform: str | None = None
    """A transformation of the query, by name; None: the query as it is."""
    rerank: str | None = None
    """A reranker, by name; None: the order of retrieval."""
    explain: bool = False
    index_version: str | None = None
    """The version to search, with its own encoder; None: the one that is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    query: str
    mode: Mode
    index_version: str | None
    passages: tuple[Passage, ...]
    timings_ms: Mapping[str, float]
    transformed: Transformed | None = None
    notes: tuple[str, ...] = ()
    """What a reader should know of how the passages were found, as where a step fell back."""
    bm25_terms: Mapping[ChunkId, Mapping[str, float]] = field(default_factory=dict)
    """When asked to explain: what each term adds to a passage's BM25 score; the parts sum to it."""


def search(services: Services, request: SearchRequest) -> SearchResult:
    """The best passages for a query, each loaded from the database before it is shown.

    Raises CollectionNotFound, VersionNotFound, FilterError, InvalidRequest for a step that is not set up, and
    IndexVersionError when the index cannot be read.
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
    notes: list[str] = []
    pipeline = _pipeline(services, request, index, mode, timings, notes.append)
    found = pipeline.run(
        Query(text=request.query, allowed_documents=allowed),
        request.top_k,
        lambda hits: load_passages(services, collection.id, hits),
    )
    passages = found.passages
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
        transformed=found.transformed,
        notes=tuple(notes),
        bm25_terms=terms,
    )


def _pipeline(
    services: Services,
    request: SearchRequest,
    index: OpenIndex,
    mode: Mode,
    timings: Timings,
    note: Callable[[str], None],
) -> Pipeline:
    """The steps of a request; raises InvalidRequest for what is not set up."""
    spec = MODES[mode]
    parts = RerankParts(
        settings=services.settings,
        resources=index.resources,
        encoder=index.encoder,
        language_model=services.language_model,
        note=note,
    )
    return Pipeline(
        retriever=index.retriever(mode),
        encoder=index.encoder,
        needs_vector=spec.needs_vector,
        needs_tokens=spec.needs_tokens,
        transformation=transformation(services, request.transform) if request.transform else None,
        reranker=reranker(request.rerank, parts) if request.rerank else None,
        rerank_k=services.settings.search.rerank_k,
        rrf_k=services.settings.search.rrf_k,
        timings=timings,
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
