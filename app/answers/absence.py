"""Why a document is not among the hits of a search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from app.db import collections, documents, filters
from app.db.errors import DocumentNotFound
from app.errors import NotFound
from app.ids import parse_id
from app.search.explaining import Trace
from app.search.searching import SearchRequest, SearchResult, search
from indexing.types import ChunkId, DocumentId
from retrievers.explain import Place, ranks_of
from retrievers.modes import MODES
from retrievers.pipeline import MARGIN
from retrievers.transformation.base import Transformed, Variant
from retrievers.types import Hit, Mode, Query

if TYPE_CHECKING:
    from app.db.tables import DocumentRow
    from app.services import Services

Reason = Literal[
    "returned",
    "document_missing",
    "document_not_ready",
    "filtered_out",
    "not_indexed",
    "candidate_depth",
    "fusion",
    "rerank",
    "top_k",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of one document in a search: the first of the reasons that holds, and the numbers.

    `places` are those of its best chunk in each list, among all chunks. `rank` is the document's best in the
    final list, `reranked` after reranking; None where it has none, or no reranker was asked.
    """

    document: str
    reason: Reason
    detail: str
    document_id: int | None = None
    source: str | None = None
    status: str | None = None
    n_chunks: int = 0
    chunk_id: ChunkId | None = None
    places: tuple[Place, ...] = ()
    rank: int | None = None
    reranked: int | None = None


def explain_document(services: Services, request: SearchRequest, named: str) -> tuple[SearchResult, Fate]:
    """The search, explained, and what became in it of a document, named by id or source.

    Every list is gone through to the document's place, so it takes longer than a search. Raises as `search`.
    """
    result = search(services, replace(request, explain=True))
    row = _find(services, request.collection, named)
    if row is None:
        detail = f"The collection {request.collection} has no document {named!r}."
        return result, Fate(document=named, reason="document_missing", detail=detail)
    fate = Fate(
        document=named,
        reason="returned",
        detail="",
        document_id=row.id,
        source=row.source,
        status=row.status,
    )
    trace = result.trace
    chunk_ids = [] if trace is None else trace.index.snapshot.document_chunks(DocumentId(row.id)).tolist()
    fate = replace(fate, n_chunks=len(chunk_ids))
    rank = next((p.rank for p in result.passages if p.chunk.document_id == row.id), None)
    if rank is not None:
        reranked = rank if request.rerank else None
        return result, replace(fate, detail=f"It is hit {rank}.", rank=rank, reranked=reranked)
    if not chunk_ids and row.status != "ready":
        why = f": {row.error_code}" if row.error_code else ""
        detail = f"The document is {row.status}{why}; it is searchable when it is ready."
        return result, replace(fate, reason="document_not_ready", detail=detail)
    if _is_filtered_out(services, request, row):
        return result, replace(fate, reason="filtered_out", detail="The filters do not hold for it.")
    if trace is None or not chunk_ids:
        detail = "The served index has no chunk of it: it has no text, or the index is behind."
        return result, replace(fate, reason="not_indexed", detail=detail)
    return result, _in_the_index(trace, fate)


def _find(services: Services, collection: str, named: str) -> DocumentRow | None:
    with services.read() as session:
        owner = collections.get_by_name(session, collection)
        row = documents.get_by_source(session, owner.id, named)
        if row is None:
            try:
                row = documents.get(session, parse_id(named, "document"))
            except (NotFound, DocumentNotFound):
                return None
        return row if row.collection_id == owner.id else None


def _is_filtered_out(services: Services, request: SearchRequest, row: DocumentRow) -> bool:
    if not request.filters:
        return False
    with services.read() as session:
        allowed = filters.allowed_documents(session, row.collection_id, request.filters)
    return row.id not in allowed


def _in_the_index(trace: Trace, fate: Fate) -> Fate:
    """Where a document was lost whose chunks were searched."""
    document_id = cast(int, fate.document_id)
    n_chunks = max(trace.index.snapshot.segments.n_live, 1)
    n_needed = max(trace.top_k, trace.pipeline.rerank_k) if trace.pipeline.reranker else trace.top_k
    final = _best_rank(trace, document_id, n_chunks)
    places = _places(trace, document_id, n_chunks)
    fate = replace(
        fate,
        chunk_id=None if final is None else final.chunk_id,
        places=places,
        rank=None if final is None else final.rank,
    )
    if any(passage.chunk.document_id == document_id for passage in trace.outcome.candidates):
        return _lost_by_reranking(trace, fate)
    depth = max(trace.index.resources.tuning.candidate_k, n_needed + MARGIN)
    ranks = [place.rank for place in places if place.rank is not None]
    shown = ", ".join(f"{place.name} {place.rank or 'not found'}" for place in places)
    if final is None:
        return replace(fate, reason="candidate_depth", detail=f"No list has it ({shown}).")
    if len(places) > 1 and all(rank > depth for rank in ranks):
        detail = f"No list has it among the first {depth} that are fused: {shown}."
        return replace(fate, reason="candidate_depth", detail=detail)
    if len(places) > 1 and any(rank <= n_needed for rank in ranks):
        detail = f"A list alone would have had it ({shown}); together they put it at {final.rank}."
        return replace(fate, reason="fusion", detail=detail)
    kept = f"the {n_needed} that are reranked" if trace.pipeline.reranker else f"top_k {n_needed}"
    return replace(fate, reason="top_k", detail=f"Its rank is {final.rank}, beyond {kept} ({shown}).")


def _lost_by_reranking(trace: Trace, fate: Fate) -> Fate:
    candidates, reranker = trace.outcome.candidates, trace.pipeline.reranker
    assert reranker is not None
    before = next(p.rank for p in candidates if p.chunk.document_id == fate.document_id)
    everything = reranker.rerank(trace.outcome.queries[0], candidates, len(candidates))
    after = next((p.rank for p in everything if p.chunk.document_id == fate.document_id), None)
    detail = f"The reranker moved it from {before} to {after}, beyond top_k {trace.top_k}."
    return replace(fate, reason="rerank", detail=detail, rank=before, reranked=after)


def _best_rank(trace: Trace, document_id: int, n_chunks: int) -> Hit | None:
    """The document's first hit in the list before reranking, looked for all the way down."""
    depth = min(max(trace.index.resources.tuning.candidate_k, trace.top_k + MARGIN), n_chunks)
    transformed = trace.outcome.transformed or Transformed(variants=(Variant(text=trace.query),))
    while True:
        hits = trace.pipeline.retrieve(trace.outcome.queries, transformed, depth)
        found = next((hit for hit in hits if hit.document_id == document_id), None)
        if found is not None or len(hits) < depth or depth >= n_chunks:
            return found
        depth = min(depth * 4, n_chunks)


def _places(trace: Trace, document_id: int, n_chunks: int) -> tuple[Place, ...]:
    """The document's best place in each list that the mode searches, among all chunks that are allowed."""
    query = trace.searched
    if query is None:
        return ()
    own = replace(query, allowed_documents=np.array([document_id], dtype=np.int64))
    (scored,) = trace.pipeline.retriever.retrieve([own], n_chunks)
    names = dict.fromkeys(name for hit in scored for name in (*hit.scores, *hit.ranks) if name in MODES)
    return tuple(_place(trace, cast(Mode, name), query, own, n_chunks) for name in names)


def _place(trace: Trace, name: Mode, query: Query, own: Query, n_chunks: int) -> Place:
    retriever = MODES[name].build(trace.index.resources)
    (best,) = retriever.retrieve([own], 1)
    if not best:
        return Place(name=name, rank=None, score=None)
    found = ranks_of(retriever, query, [best[0].chunk_id], deepest=n_chunks).get(best[0].chunk_id)
    return Place(name=name, rank=found.rank if found else None, score=best[0].score)
