"""Tagging."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.api.schemas.base import CollectionName, Filters, Request, Response
from app.ids import format_id
from app.search.tagging import MAX_LABELS, Tagged, TaggedPage
from retrievers.labels import PRIOR_WEIGHT, THRESHOLD

Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]


class LabelIn(Request):
    name: Name
    description: str = Field("", max_length=2000, description="What the label means, to find it by")
    prior: float = Field(0.0, ge=0, le=1, description="The share of documents that bear it, if known")


class TagsIn(Request):
    labels: list[Name | LabelIn] = Field(
        min_length=1, max_length=MAX_LABELS, examples=[["tea", {"name": "coffee", "description": "beans"}]]
    )
    collection: CollectionName = "default"
    filters: Filters = None
    top_k: int = Field(3, ge=1, le=100, description="At most so many labels a document")
    threshold: float = Field(THRESHOLD, ge=-1, le=10, description="The least score of a label")
    prior_weight: float = Field(PRIOR_WEIGHT, ge=0, le=10_000, description="A in ln(A · prior + e)")
    limit: int = Field(100, ge=1, le=1000, description="Documents looked at by this request")
    cursor: str | None = Field(None, description="`next_cursor` of the page before")
    write: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="The metadata field that gets the labels; null writes nothing"
    )
    use_llm: bool = Field(True, description="Ask the language model, where one is set")


class LabelOut(Response):
    label: str
    score: float
    evidence: str = Field(description="The term or sentence that is nearest to the label")
    dense: float
    lexical: float


class TaggedOut(Response):
    document_id: str
    source: str
    title: str | None
    labels: list[LabelOut]
    note: str | None
    written: bool


class TagsOut(Response):
    data: list[TaggedOut]
    next_cursor: str | None


def tags_out(page: TaggedPage) -> TagsOut:
    return TagsOut(data=[tagged_out(item) for item in page.tagged], next_cursor=page.next_cursor)


def tagged_out(item: Tagged) -> TaggedOut:
    return TaggedOut(
        document_id=format_id(item.document_id),
        source=item.source,
        title=item.title,
        labels=[
            LabelOut(
                label=found.label.name,
                score=found.score,
                evidence=" ".join(found.evidence.split())[:500],
                dense=found.dense,
                lexical=found.lexical,
            )
            for found in item.labels
        ],
        note=item.note,
        written=item.written,
    )
