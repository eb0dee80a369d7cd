"""Search."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.schemas.search import SearchIn, SearchOut, search_out
from app.deps import ServicesDep
from app.search.rerankers import chosen_reranker
from app.search.searching import SearchRequest, search
from app.services import Services

router = APIRouter(prefix="/v1", tags=["search"])

DEFAULT_TOP_K = 10


@router.post("/search")
def search_route(services: ServicesDep, body: SearchIn) -> SearchOut:
    """The chunks that fit a query best, each with its place in its document and its scores."""
    return search_out(search(services, search_request(services, body)))


def search_request(services: Services, body: SearchIn) -> SearchRequest:
    """Raises InvalidRequest for a reranker that is not set."""
    return SearchRequest(
        query=body.query,
        collection=body.collection,
        top_k=body.top_k or DEFAULT_TOP_K,
        mode=body.mode,
        filters=body.filters,
        transform=body.transform,
        rerank=chosen_reranker(services.settings.search, body.rerank),
        explain=body.explain,
        sentences=body.sentences,
        fusion=body.fusion.spec() if body.fusion else None,
    )
