"""Why hits are hits, and why a document is none."""

from __future__ import annotations

from fastapi import APIRouter

from app.answers.absence import explain_document
from app.api.schemas.fates import ExplainIn, ExplainOut, fate_out
from app.api.schemas.search import search_out
from app.api.search import search_request
from app.deps import ServicesDep

router = APIRouter(prefix="/v1", tags=["search"])


@router.post("/explain")
def explain_route(services: ServicesDep, body: ExplainIn) -> ExplainOut:
    """The search, explained, and why a document is among its hits or not."""
    result, fate = explain_document(services, search_request(services, body), body.document)
    return ExplainOut(search=search_out(result), document=fate_out(fate))
