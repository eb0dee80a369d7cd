"""Why hits are hits, and why a document is none."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.api.schemas.base import Response
from app.search.explaining import SearchExplanation
from retrievers.explain import HitExplanation


class PlaceOut(Response):
    """Where a hit stands in one list; `share` is what the list added to the score before any reranking."""

    name: str
    rank: int | None = Field(description="Null beyond rank 1000")
    score: float | None
    share: float | None


class AlignedTokenOut(Response):
    """A token of the query and the passage's token nearest to it, with characters of the document."""

    token: str
    start: int = Field(description="In the query")
    end: int
    nearest: str
    document_start: int | None = Field(description="In the document; null where it stands in a heading")
    document_end: int | None
    score: float
    weight: float = Field(description="How much it counts: by its rarity where the mode weighs, else 1")


class AlignmentOut(Response):
    score: float = Field(description="MaxSim, the sum over the query's tokens of weight times score")
    tokens: list[AlignedTokenOut]


class RerankChangeOut(Response):
    rank_before: int
    score_before: float
    rank: int
    score: float


class ExplanationOut(Response):
    bm25_terms: dict[str, float] = Field(description="What each term adds to the BM25 score")
    terms: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="The same for every retriever that scores terms, by its name"
    )
    places: list[PlaceOut] = Field(
        default_factory=list, description="The lists that found the hit; their shares add up to its score"
    )
    alignment: AlignmentOut | None = None
    rerank: RerankChangeOut | None = None


class SearchExplanationOut(Response):
    mode: str
    filters: dict[str, Any] | None
    n_allowed_documents: int | None = Field(description="Documents for which the filters hold")
    candidate_k: int = Field(description="How many chunks each list gives to fusion")
    rerank_k: int | None = Field(description="How many passages go to the reranker, if there is one")
    searched_with: list[str] = Field(description="The query, or what a transformation made of it")


class SentenceOut(Response):
    """Characters `[start, end)` of the document, and how near the query is, between -1 and 1."""

    start: int
    end: int
    text: str
    score: float


class MatchOut(Response):
    """Characters `[start, end)` of the document in which an n-gram of the query stands."""

    ngram: str
    start: int
    end: int


def explanation_out(found: HitExplanation, *, start: int) -> ExplanationOut:
    """`start` is where the passage begins in its document."""
    alignment = None
    if found.alignment is not None:
        alignment = AlignmentOut(
            score=found.alignment.score,
            tokens=[
                AlignedTokenOut(
                    token=token.token,
                    start=token.start,
                    end=token.end,
                    nearest=token.nearest,
                    document_start=None if token.passage_start is None else start + token.passage_start,
                    document_end=None if token.passage_end is None else start + token.passage_end,
                    score=token.score,
                    weight=token.weight,
                )
                for token in found.alignment.tokens
            ],
        )
    return ExplanationOut(
        bm25_terms=dict(found.terms.get("bm25", {})),
        terms={name: dict(terms) for name, terms in found.terms.items()},
        places=[PlaceOut.model_validate(place) for place in found.places],
        alignment=alignment,
        rerank=None if found.rerank is None else RerankChangeOut.model_validate(found.rerank),
    )


def search_explanation_out(found: SearchExplanation) -> SearchExplanationOut:
    return SearchExplanationOut(
        mode=found.mode,
        filters=None if found.filters is None else dict(found.filters),
        n_allowed_documents=found.n_allowed_documents,
        candidate_k=found.candidate_k,
        rerank_k=found.rerank_k,
        searched_with=list(found.searched_with),
    )
