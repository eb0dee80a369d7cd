"""What became of a document in a search."""

from __future__ import annotations

from pydantic import Field

from app.answers.absence import Fate, Reason
from app.api.schemas.base import Response
from app.api.schemas.explanation import PlaceOut
from app.api.schemas.search import SearchIn, SearchOut
from app.ids import format_id


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
