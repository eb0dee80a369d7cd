"""Golden questions: kept, listed, removed, asked."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.schemas.base import CollectionName
from app.api.schemas.golden import (
    GoldenDeleted,
    GoldenIn,
    GoldenList,
    GoldenOut,
    GoldenRunIn,
    GoldenRunOut,
    golden_out,
    golden_run_out,
)
from app.db import collections
from app.db import golden as questions
from app.db.golden import Expected
from app.deps import ServicesDep
from app.ids import format_id, parse_id
from app.learning import golden

router = APIRouter(prefix="/v1/golden", tags=["golden questions"])


@router.post("", status_code=201)
def add_golden(services: ServicesDep, body: GoldenIn) -> GoldenOut:
    """Keeps a question and what a search for it must find; the same question again adds to that."""
    expected = [Expected(item.source, item.quote) for item in body.expected]
    return golden_out(golden.add(services, body.collection, body.question, expected), body.collection)


@router.get("")
def list_golden(services: ServicesDep, collection: CollectionName = "default") -> GoldenList:
    """A collection's golden questions, the oldest first."""
    with services.read() as session:
        found = questions.list_all(session, collections.get_by_name(session, collection).id)
    return GoldenList(data=[golden_out(item, collection) for item in found])


@router.delete("/{question_id}")
def remove_golden(services: ServicesDep, question_id: str) -> GoldenDeleted:
    number = parse_id(question_id, "golden_question")
    with services.write() as session:
        questions.remove(session, number)
    return GoldenDeleted(id=format_id(number), deleted=True)


@router.post("/run")
def run_golden(services: ServicesDep, body: GoldenRunIn | None = None) -> GoldenRunOut:
    """Asks all golden questions of a collection, and says what was found at which rank."""
    wanted = body or GoldenRunIn()
    with services.read() as session:
        collection_id = collections.get_by_name(session, wanted.collection).id
    found = golden.run(services, collection_id, wanted.index_version, mode=wanted.mode, top_k=wanted.top_k)
    return golden_run_out(found)
