"""Searching one collection: snapshot → filter → encode → retrieve → authorise and load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from app.db import chunks, collections, filters, tunings, versions
from app.db.errors import VersionNotFound
from app.db.tunings import StoredTuning
from app.errors import InvalidRequest
from app.search.explaining import (
    SearchExplanation,
    Trace,
    explain_search,
    live_tokens,
    matches_of,
    sentences_of,
)
from app.search.rerankers import RerankParts, check_reranker, reranker
from app.search.transformations import transformation
from indexing.errors import IndexMissing
from indexing.types import ChunkId
from retrievers.best_sentences import SentenceScore
from retrievers.fused import FusionSpec
from retrievers.modes import ModeSpec, mode_spec
from retrievers.ngrams import Match
from retrievers.pipeline import Pipeline
from retrievers.timings import Timings
from retrievers.transformation.base import Transformation, Transformed
from retrievers.types import Hit, Mode, Passage, Query

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.db.tables import CollectionRow
    from app.services import Services
    from app.versions.indexes import OpenIndex


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
    sentences: bool = False
    """Whether each passage's best sentence is wanted."""
    fusion: FusionSpec | None = None
    """What the mode `fused` fuses, and how; the mode where none is named."""
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
    explanation: SearchExplanation | None = None
    sentences: Mapping[ChunkId, SentenceScore] = field(default_factory=dict)
    matches: Mapping[ChunkId, tuple[Match, ...]] = field(default_factory=dict)
    """Where n-grams of the query stand, for the passages that were found by them."""
    trace: Trace | None = field(default=None, repr=False, compare=False)


def search(services: Services, request: SearchRequest) -> SearchResult:
    """The best passages for a query, each loaded from the database before it is shown.

    Raises CollectionNotFound, VersionNotFound, FilterError, InvalidRequest for a step that is not set up, and
    IndexVersionError when the index cannot be read.
    """
    check_text("query", request.query)
    timings = Timings()
    mode = _mode(services, request)
    spec = spec_of(mode, request.fusion)
    transforming = chosen_transformation(services, request)
    check_reranking(services, request)
    with timings.stage("filter"), services.read() as session:
        collection = collections.get_by_name(session, request.collection)
        version_id = _version(session, collection, request.index_version)
        allowed = (
            filters.allowed_documents(session, collection.id, request.filters) if request.filters else None
        )
        tuning = tunings.get(session, collection.id)
    if version_id is None or (allowed is not None and len(allowed) == 0):
        return SearchResult(
            query=request.query,
            mode=mode,
            index_version=version_id,
            passages=(),
            timings_ms=timings.rounded(),
        )
    with timings.stage("open"):
        index = tuned(_open(services, request, collection.id, version_id), tuning)
        if mode == "fused":
            spec = spec_of(mode, request.fusion or index.resources.tuning.fusion)
    notes: list[str] = []
    pipeline = _pipeline(services, request, index, spec, transforming, timings, notes.append)
    found = pipeline.run(
        Query(text=request.query, allowed_documents=allowed),
        request.top_k,
        lambda hits: load_passages(services, collection.id, hits),
    )
    trace = Trace(
        query=request.query,
        mode=mode,
        index=index,
        pipeline=pipeline,
        outcome=found,
        top_k=request.top_k,
        allowed=allowed,
    )
    explanation, sentences = None, {}
    if request.explain or request.sentences:
        with timings.stage("explain"):
            live = live_tokens(trace)
            explanation = explain_search(trace, live, request.filters) if request.explain else None
            sentences = sentences_of(trace, live) if request.sentences else {}
    return SearchResult(
        query=request.query,
        mode=mode,
        index_version=index.snapshot.manifest.spec.version,
        passages=found.passages,
        timings_ms=timings.rounded(),
        transformed=found.transformed,
        notes=(*_notes_of(found.transformed), *notes),
        explanation=explanation,
        sentences=sentences,
        matches=matches_of(trace),
        trace=trace,
    )


def tuned(index: OpenIndex, tuning: StoredTuning | None) -> OpenIndex:
    """The index with what was learned for its collection in place of the settings."""
    if tuning is None:
        return index
    values = dict(tuning.values)
    if "fusion" in values:
        values["fusion"] = FusionSpec.of_values(values["fusion"])
    resources = replace(index.resources, tuning=replace(index.resources.tuning, **values))
    return replace(index, resources=resources)


def _mode(services: Services, request: SearchRequest) -> Mode:
    if request.mode is None and request.fusion is not None:
        return "fused"
    return request.mode or services.settings.search.mode


def spec_of(mode: Mode, fusion: FusionSpec | None) -> ModeSpec:
    """How a mode is made. Raises InvalidRequest (`invalid_fusion`)."""
    try:
        return mode_spec(mode, fusion)
    except ValueError as error:
        raise InvalidRequest(str(error), code="invalid_fusion") from error


def chosen_transformation(services: Services, request: SearchRequest) -> Transformation | None:
    """The transformation that a request asks for; raises InvalidRequest where it cannot be had."""
    if not request.transform:
        return None
    return transformation(
        request.transform,
        _mode(services, request),
        services.language_model,
        services.settings.transform,
        fusion=request.fusion,
    )


def check_text(name: str, value: str) -> None:
    """Raises InvalidRequest for what is no Unicode: a terminal and a file can hold what HTTP refuses."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"The {name} is no text: it holds half of a surrogate pair.") from error


def check_reranking(services: Services, request: SearchRequest) -> None:
    """Raises InvalidRequest for a reranker that cannot be had, also where there is nothing to rerank."""
    if request.rerank:
        check_reranker(request.rerank, services.settings.rerank, services.language_model)


def _notes_of(transformed: Transformed | None) -> tuple[str, ...]:
    return (transformed.note,) if transformed is not None and transformed.note else ()


def _pipeline(
    services: Services,
    request: SearchRequest,
    index: OpenIndex,
    spec: ModeSpec,
    transforming: Transformation | None,
    timings: Timings,
    note: Callable[[str], None],
) -> Pipeline:
    """The steps of a request; raises InvalidRequest for what is not set up."""
    parts = RerankParts(
        settings=services.settings,
        resources=index.resources,
        encoder=index.encoder,
        language_model=services.language_model,
        note=note,
    )
    return Pipeline(
        retriever=spec.build(index.resources),
        encoder=index.encoder,
        needs_vector=spec.needs_vector,
        needs_tokens=spec.needs_tokens,
        transformation=transforming,
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
            ranks=hit.ranks,
            shares=hit.shares,
        )
        for rank, (hit, row) in enumerate(found, start=1)
    )
