"""Golden questions, and a run of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from app.api.schemas.base import CollectionName, Request, Response
from app.db.golden import GoldenQuestion
from app.ids import format_id
from app.learning.golden import GoldenRun, Mean, Outcome
from retrievers.types import Mode


class GoldenExpected(Request):
    source: str = Field(
        min_length=1, max_length=2000, description="The document's source, or its id", examples=["tea"]
    )
    quote: str | None = Field(
        None,
        min_length=1,
        max_length=10_000,
        description="A verbatim quotation of the document: the place that must be found",
    )


class GoldenIn(Request):
    question: str = Field(min_length=1, max_length=10_000, pattern=r"\S", examples=["How is tea made?"])
    collection: CollectionName = "default"
    expected: list[GoldenExpected] = Field(
        min_length=1, max_length=1000, description="The documents, or places in them, that must be found"
    )


class GoldenExpectedOut(Response):
    source: str
    quote: str | None


class GoldenOut(Response):
    id: str
    collection: str
    question: str
    expected: list[GoldenExpectedOut]
    created_at: datetime
    generator: str | None = Field(None, description="What made the question; null where a person did")


class GoldenList(Response):
    data: list[GoldenOut]
    next_cursor: None = Field(None, description="There is one page")


class GoldenDeleted(Response):
    id: str
    deleted: bool


class GoldenRunIn(Request):
    collection: CollectionName = "default"
    index_version: str | None = Field(None, max_length=64, description="Default: the version that is served")
    mode: Mode | None = Field(None, description="Default: the `search.mode` setting")
    top_k: Annotated[int, Field(ge=1, le=1000, description="How many passages are looked at")] = 10


class GoldenItemOut(Response):
    source: str
    quote: str | None
    rank: int | None
    stale: Literal["document_missing", "document_not_ready", "quote_missing"] | None


class GoldenOutcomeOut(Response):
    id: str
    question: str
    recall: float | None
    mrr: float | None
    ndcg: float | None
    expected: list[GoldenItemOut]


class MeanOut(Response):
    """The mean over the questions, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class GoldenRunOut(Response):
    index_version: str | None
    mode: str
    top_k: int
    n_questions: int
    n_stale: int
    recall: MeanOut | None
    mrr: MeanOut | None
    ndcg: MeanOut | None
    questions: list[GoldenOutcomeOut]


def golden_out(question: GoldenQuestion, collection: str) -> GoldenOut:
    return GoldenOut(
        id=format_id(question.id),
        collection=collection,
        question=question.question,
        expected=[GoldenExpectedOut(source=item.source, quote=item.quote) for item in question.expected],
        created_at=question.created_at,
        generator=question.generator,
    )


def golden_run_out(run: GoldenRun) -> GoldenRunOut:
    return GoldenRunOut(
        index_version=run.version_id,
        mode=run.mode,
        top_k=run.top_k,
        n_questions=run.n_measured,
        n_stale=len(run.outcomes) - run.n_measured,
        recall=_mean_out(run.mean("recall")),
        mrr=_mean_out(run.mean("mrr")),
        ndcg=_mean_out(run.mean("ndcg")),
        questions=[_outcome_out(outcome) for outcome in run.outcomes],
    )


def _outcome_out(outcome: Outcome) -> GoldenOutcomeOut:
    values = outcome.values or {}
    return GoldenOutcomeOut(
        id=format_id(outcome.question.id),
        question=outcome.question.question,
        recall=values.get("recall"),
        mrr=values.get("mrr"),
        ndcg=values.get("ndcg"),
        expected=[
            GoldenItemOut(
                source=item.expected.source, quote=item.expected.quote, rank=item.rank, stale=item.stale
            )
            for item in outcome.items
        ],
    )


def _mean_out(mean: Mean | None) -> MeanOut | None:
    return MeanOut(mean=mean.mean, low=mean.low, high=mean.high) if mean is not None else None
