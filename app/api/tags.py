"""Tagging documents with the labels of a list."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.schemas.tags import LabelIn, TagsIn, TagsOut, tags_out
from app.deps import ServicesDep
from app.search.tagging import TagRequest, tag_page
from retrievers.labels import Label

router = APIRouter(prefix="/v1", tags=["documents"])


@router.post("/tags")
def tags_route(services: ServicesDep, body: TagsIn) -> TagsOut:
    """The labels of a list that fit each document; written into its metadata only where that is asked for."""
    request = TagRequest(
        labels=tuple(_label(item) for item in body.labels),
        collection=body.collection,
        filters=body.filters,
        top_k=body.top_k,
        threshold=body.threshold,
        prior_weight=body.prior_weight,
        limit=body.limit,
        cursor=body.cursor,
        write=body.write,
        use_llm=body.use_llm,
    )
    return tags_out(tag_page(services, request))


def _label(item: str | LabelIn) -> Label:
    if isinstance(item, str):
        return Label(name=item)
    return Label(name=item.name, description=item.description, prior=item.prior)
