"""Tuning and diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from app.api.schemas.base import CollectionName, Filters, Request, Response
from app.api.schemas.golden import GoldenExpected
from app.api.schemas.search import FusionIn
from app.learning.diagnosis import Diagnosis, summarise
from retrievers.types import Mode


class TuneIn(Request):
    mode: Mode | None = Field(None, description="Default: the `search.mode` setting")
    fusion: FusionIn | None = Field(
        None, description="What the mode `fused` fuses from now on; its weights are learned"
    )
    n_synthetic: int = Field(
        0, ge=0, le=10_000, description="Make so many questions for this instead of taking the golden ones"
    )
    dry_run: bool = Field(False, description="Only say what would be adopted")


class TuningOut(Response):
    values: dict[str, Any] = Field(description="What takes the place of the settings; empty: nothing")
    evidence: dict[str, Any] | None
    created_at: datetime | None


class TuningReset(Response):
    reset: bool = Field(description="Whether anything had been adopted")


class QuestionIn(Request):
    question: str = Field(min_length=1, max_length=10_000, pattern=r"\S", examples=["How long is a lease?"])
    answers: list[Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"\S")]] = Field(
        default_factory=list, max_length=20, description="Wordings of the answer, of which each would do"
    )
    expected: list[GoldenExpected] = Field(default_factory=list, max_length=100)
    unanswerable: bool = Field(False, description="The question is to be refused")
    format: str | None = Field(None, max_length=200, description="`list`, `table`, `json` or `number`")
    filters: Filters = None


class DiagnoseIn(Request):
    questions: list[QuestionIn] = Field(min_length=1, max_length=100)
    collection: CollectionName = "default"
    mode: Mode | None = Field(None, description="Default: the `search.mode` setting")
    top_k: Annotated[int | None, Field(ge=1, le=100, description="Passages an answer may rest on")] = None
    rerank: bool | str | None = None
    generator: Literal["auto", "extractive", "llm"] | None = None
    only_search: bool = Field(False, description="Answer nothing: look at FP1 to FP3 alone")


class DiagnosisOut(Response):
    question: str
    cause: str | None = Field(description="FP1 to FP7, or null where all went well")
    failures: list[str]
    answer: str | None
    evidence: dict[str, Any]


class DiagnoseOut(Response):
    n_questions: int
    n_right: int
    counts: dict[str, int]
    advice: dict[str, str]
    questions: list[DiagnosisOut]


def diagnose_out(found: Sequence[Diagnosis]) -> DiagnoseOut:
    summary = summarise(found)
    return DiagnoseOut(
        n_questions=summary.n_questions,
        n_right=summary.n_right,
        counts=dict(summary.counts),
        advice=dict(summary.advice),
        questions=[diagnosis_out(item) for item in found],
    )


def diagnosis_out(item: Diagnosis) -> DiagnosisOut:
    return DiagnosisOut(
        question=item.case.question,
        cause=item.cause,
        failures=list(item.failures),
        answer=item.answer,
        evidence=dict(item.evidence),
    )
