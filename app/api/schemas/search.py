"""Searches and their hits."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from app.api.schemas.base import CollectionName, Filters, Request, Response, TopK
from app.api.schemas.explanation import (
    ExplanationOut,
    MatchOut,
    SearchExplanationOut,
    SentenceOut,
    explanation_out,
    search_explanation_out,
)
from app.ids import format_id
from app.search.searching import SearchResult
from indexing.types import Chunk
from retrievers.fused import FusionSpec
from retrievers.fusion import Method
from retrievers.transformation.base import Transformed
from retrievers.types import Mode, Passage


class FusionIn(Request):
    retrievers: list[str] = Field(
        ["bm25", "dense"],
        min_length=1,
        max_length=16,
        description="Modes, each once",
        examples=[["bm25", "dense"]],
    )
    method: Method = "rrf"
    weights: dict[str, float] = Field(
        default_factory=dict, description="By retriever, 1 where none is given; `rrf` takes none"
    )
    k: int = Field(60, ge=1, le=10_000, description="The constant of reciprocal ranks")

    @model_validator(mode="after")
    def _makes_sense(self) -> FusionIn:
        self.spec()
        return self

    def spec(self) -> FusionSpec:
        return FusionSpec(
            retrievers=tuple(self.retrievers), method=self.method, weights=self.weights, k=self.k
        )


class SearchIn(Request):
    query: str = Field(min_length=1, max_length=10_000, examples=["How do I roll back an index?"])
    collection: CollectionName = "default"
    top_k: TopK = None
    mode: Mode | None = Field(None, description="Default: the `search.mode` setting")
    filters: Filters = None
    rerank: bool | str | None = Field(
        None, description="Order the hits anew: a reranker's name, or true for the `search.reranker` setting"
    )
    transform: str | None = Field(None, description="Transform the query first: a transformation's name")
    fusion: FusionIn | None = Field(None, description="What the mode `fused` fuses, and how")
    explain: bool = Field(
        False, description="Say of each hit which lists found it, by which terms and by which tokens"
    )
    sentences: bool = Field(False, description="Point to the sentence of each hit that fits best")


class HitOut(Response):
    rank: int
    score: float
    chunk_id: str
    document_id: str
    title: str | None
    source: str
    text: str
    start: int
    end: int
    page: int | None
    heading_path: list[str]
    scores: dict[str, float]
    explanation: ExplanationOut | None = Field(None, description="With `explain`: why it is a hit")
    best_sentence: SentenceOut | None = Field(None, description="With `sentences`, where it has one")
    matches: list[MatchOut] | None = Field(
        None, description="With the mode `ngram`: where n-grams of the query stand in the text"
    )


class VariantOut(Response):
    text: str
    weight: float = Field(description="Weight of its ranking among the others'")
    passages: list[str] = Field(
        description="Passages a language model made up, averaged into the vector; never a source"
    )


class TransformedOut(Response):
    name: str
    variants: list[VariantOut]
    note: str | None = Field(description="Why the query was searched as it is, or with less than asked for")


class SearchOut(Response):
    query: str
    mode: str
    index_version: str | None
    hits: list[HitOut]
    explanation: SearchExplanationOut | None = Field(None, description="With `explain`: how was searched")
    transformed: TransformedOut | None = Field(
        None, description="With `transform`: what was searched with instead of the query"
    )
    notes: list[str] = Field(
        default_factory=list, description="What to know of how the hits were found, as where a step fell back"
    )
    timings_ms: dict[str, float]


def search_out(result: SearchResult) -> SearchOut:
    return SearchOut(
        query=result.query,
        mode=result.mode,
        index_version=result.index_version,
        hits=[hit_out(passage, result) for passage in result.passages],
        explanation=search_explanation_out(result.explanation) if result.explanation else None,
        transformed=transformed_out(result.transformed) if result.transformed else None,
        notes=list(result.notes),
        timings_ms=dict(result.timings_ms),
    )


def hit_out(passage: Passage, found: SearchResult | None = None) -> HitOut:
    """A passage, with what its search found out about it."""
    chunk = passage.chunk
    return HitOut(
        rank=passage.rank,
        score=passage.score,
        chunk_id=format_id(chunk.id),
        document_id=format_id(chunk.document_id),
        title=passage.title,
        source=passage.source,
        text=chunk.text,
        start=chunk.start,
        end=chunk.end,
        page=chunk.page,
        heading_path=list(chunk.heading_path),
        scores=dict(passage.scores),
        **({} if found is None else _details(chunk, found)),
    )


def _details(chunk: Chunk, found: SearchResult) -> dict[str, Any]:
    explanation = found.explanation.hits.get(chunk.id) if found.explanation else None
    sentence, matches = found.sentences.get(chunk.id), found.matches.get(chunk.id)
    details: dict[str, Any] = {}
    if explanation is not None:
        details["explanation"] = explanation_out(explanation, start=chunk.start)
    if sentence is not None:
        details["best_sentence"] = SentenceOut(
            start=chunk.start + sentence.start,
            end=chunk.start + sentence.end,
            text=chunk.text[sentence.start : sentence.end],
            score=sentence.score,
        )
    if matches is not None:
        details["matches"] = [
            MatchOut(ngram=match.ngram.text, start=chunk.start + match.start, end=chunk.start + match.end)
            for match in matches
        ]
    return details


def transformed_out(transformed: Transformed) -> TransformedOut:
    return TransformedOut(
        name=transformed.name,
        variants=[
            VariantOut(text=variant.text, weight=variant.weight, passages=list(variant.passages))
            for variant in transformed.variants
        ],
        note=transformed.note,
    )
