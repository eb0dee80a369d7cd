"""Set operations: like these, and like those, but not like these others."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.schemas.similar import SimilarIn, SimilarOut, similar_out
from app.deps import ServicesDep
from app.search.similar import SimilarRequest, find_similar

router = APIRouter(prefix="/v1", tags=["search"])


@router.post("/similar")
def similar_route(services: ServicesDep, body: SimilarIn) -> SimilarOut:
    """The chunks or documents that are like every set of the first kind and unlike those of the second."""
    request = SimilarRequest(
        like=tuple(map(tuple, body.like)),
        unlike=tuple(map(tuple, body.unlike)),
        collection=body.collection,
        top_k=body.top_k,
        filters=body.filters,
        by=body.by,
        include_given=body.include_given,
    )
    return similar_out(find_similar(services, request))
