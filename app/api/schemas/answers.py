"""Answers with their claims and citations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from app.answers.answering import AnswerResult
from app.api.schemas.base import CollectionName, Filters, Request, Response
from app.api.schemas.search import HitOut, hit_out
from app.generation.answer import Citation, Claim
from app.ids import format_id
from retrievers.types import Mode


class AnswerIn(Request):
    query: str = Field(min_length=1, max_length=10_000, examples=["How do I roll back an index?"])
    collection: CollectionName = "default"
    top_k: Annotated[int | None, Field(ge=1, le=100, description="Passages the answer may rest on")] = None
    mode: Mode | None = None
    filters: Filters = None
    rerank: bool | str | None = Field(
        None, description="Order the hits anew: a reranker's name, or true for the `search.reranker` setting"
    )
    transform: str | None = Field(None, description="Transform the query first: a transformation's name")
    generator: Literal["auto", "extractive", "llm"] | None = None
    stream: bool = Field(False, description="Answer as server-sent events")


class ClaimOut(Response):
    text: str
    start: int
    end: int
    citations: list[int]
    verdict: str
    support: float


class CitationOut(Response):
    n: int
    document_id: str
    chunk_id: str
    title: str | None
    source: str
    page: int | None
    start: int
    end: int
    quote: str


class AnswerOut(Response):
    query: str
    answer: str
    abstained: bool
    reason: str | None
    confidence: float
    claims: list[ClaimOut]
    citations: list[CitationOut]
    hits: list[HitOut]
    generator: str
    notes: list[str]
    dropped_markers: int
    index_version: str | None
    timings_ms: dict[str, float]


def answer_out(result: AnswerResult) -> AnswerOut:
    answer, search = result.answer, result.search
    return AnswerOut(
        query=search.query,
        answer=answer.text,
        abstained=answer.abstained,
        reason=answer.reason,
        confidence=answer.confidence,
        claims=[claim_out(claim) for claim in answer.claims],
        citations=[citation_out(citation) for citation in answer.citations],
        hits=[hit_out(passage) for passage in search.passages],
        generator=answer.generator,
        notes=[*search.notes, *answer.notes],
        dropped_markers=answer.dropped_markers,
        index_version=search.index_version,
        timings_ms=dict(result.timings_ms),
    )


def claim_out(claim: Claim) -> ClaimOut:
    return ClaimOut.model_validate(claim)


def citation_out(citation: Citation) -> CitationOut:
    return CitationOut(
        n=citation.n,
        document_id=format_id(citation.document_id),
        chunk_id=format_id(citation.chunk_id),
        title=citation.title,
        source=citation.source,
        page=citation.page,
        start=citation.start,
        end=citation.end,
        quote=citation.quote,
    )
