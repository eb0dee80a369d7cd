"""Set operations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from app.api.schemas.base import CollectionName, Filters, Request, Response
from app.api.schemas.search import HitOut, hit_out
from app.ids import format_id
from app.search.similar import MAX_ITEMS, Item, SimilarResult

Text = Annotated[str, Field(min_length=1, max_length=10_000)]

Sets = Annotated[list[Annotated[list[Text], Field(min_length=1, max_length=MAX_ITEMS)]], Field(max_length=20)]


class SimilarIn(Request):
    like: Sets = Field(
        default_factory=list,
        description="Sets of chunk ids, document ids, sources or texts; a result is like every set",
        examples=[[["How is tea made?", "Warm the pot"], ["water temperature"]]],
    )
    unlike: Sets = Field(default_factory=list, description="Sets that a result is not like")
    collection: CollectionName = "default"
    top_k: int = Field(10, ge=1, le=1000)
    filters: Filters = None
    by: Literal["chunks", "documents"] = "chunks"
    include_given: bool = Field(False, description="Let what was named be a result too")


class ItemOut(Response):
    name: str
    kind: Literal["chunk", "document", "text"]
    id: str | None


class SimilarOut(Response):
    index_version: str | None
    items: list[ItemOut] = Field(description="What each name was taken for")
    hits: list[HitOut] = Field(description="`scores` has what each set adds to the score")


def similar_out(result: SimilarResult) -> SimilarOut:
    return SimilarOut(
        index_version=result.index_version,
        items=[_item_out(item) for item in result.items],
        hits=[hit_out(passage) for passage in result.passages],
    )


def _item_out(item: Item) -> ItemOut:
    return ItemOut(name=item.name, kind=item.kind, id=None if item.id is None else format_id(item.id))
