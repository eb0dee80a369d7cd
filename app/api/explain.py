"""Why hits are hits, and why a document is none."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field

from app.absence import Fate, Reason, explain_document
from app.api.base import Response
from app.api.explanation import PlaceOut
from app.api.schemas import SearchIn, SearchOut
from app.api.search import search_request
from app.api.views import search_out
from app.deps import ServicesDep
from app.ids import format_id

router = APIRouter(prefix="/v1", tags=["search"])


class ExplainIn(SearchIn):
    document: str = Field(
        min_length=1, max_length=2000, description="The document asked about: its id or its source"
    )


class FateOut(Response):
    """What became of a document: the first reason that holds, and the numbers behind it."""

    document: str
    reason: Reason
    detail: str
    document_id: str | None
    source: str | None
    status: str | None
    n_chunks: int = Field(description="Its chunks in the index that was searched")
    chunk_id: str | None = Field(description="The chunk that stands best in the final list")
    places: list[PlaceOut] = Field(description="The best place of its chunks in each list, among all chunks")
    rank: int | None = Field(description="In the final list, before any reranking")
    reranked: int | None = Field(description="After reranking")


class ExplainOut(Response):
    search: SearchOut
    document: FateOut


@router.post("/explain")
def explain_route(services: ServicesDep, body: ExplainIn) -> ExplainOut:
    """The search, explained, and why a document is among its hits or not."""
    result, fate = explain_document(services, search_request(services, body), body.document)
    return ExplainOut(search=search_out(result), document=fate_out(fate))


def fate_out(fate: Fate) -> FateOut:
    return FateOut(
        document=fate.document,
        reason=fate.reason,
        detail=fate.detail,
        document_id=None if fate.document_id is None else format_id(fate.document_id),
        source=fate.source,
        status=fate.status,
        n_chunks=fate.n_chunks,
        chunk_id=None if fate.chunk_id is None else format_id(fate.chunk_id),
        places=[PlaceOut.model_validate(place) for place in fate.places],
        rank=fate.rank,
        reranked=fate.reranked,
    )
