"""What was learned for the searches of a collection, and why questions fail."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.schemas.base import CollectionName
from app.api.schemas.jobs import IndexBuilding, job_out
from app.api.schemas.learning import (
    DiagnoseIn,
    DiagnoseOut,
    QuestionIn,
    TuneIn,
    TuningOut,
    TuningReset,
    diagnose_out,
)
from app.db import collections
from app.db.golden import Expected
from app.deps import ServicesDep
from app.learning import tuning
from app.learning.diagnosing import Asked, diagnose
from app.learning.diagnosis import Case, checked
from app.search.rerankers import chosen_reranker
from app.search.searching import SearchRequest
from app.upkeep import upkeep
from indexing.types import text_hash

router = APIRouter(prefix="/v1", tags=["learning"])


@router.post("/collections/{name}/tune", status_code=202)
def tune_collection(services: ServicesDep, name: CollectionName, body: TuneIn | None = None) -> IndexBuilding:
    """Starts a job that learns the weights of a collection's searches, and adopts them only if they help."""
    wanted = body or TuneIn()
    fusion = None if wanted.fusion is None else wanted.fusion.spec()
    tuning.chosen_mode(services, wanted.mode, fusion)
    key = text_hash(wanted.model_dump_json())
    with services.write() as session:
        if not wanted.n_synthetic:
            tuning.golden_questions(session, name)
        owner = collections.get_by_name(session, name).id
        job = upkeep.start(services, session, upkeep.TUNE, owner, wanted.model_dump(), f"{owner}:{key}")
    return IndexBuilding(job=job_out(job))


@router.get("/collections/{name}/tuning")
def show_tuning(services: ServicesDep, name: CollectionName) -> TuningOut:
    """What searches of a collection use in place of the settings, with the evidence for it."""
    stored = tuning.show(services, name)
    if stored is None:
        return TuningOut(values={}, evidence=None, created_at=None)
    return TuningOut(values=stored.values, evidence=stored.evidence, created_at=stored.created_at)


@router.delete("/collections/{name}/tuning")
def reset_tuning(services: ServicesDep, name: CollectionName) -> TuningReset:
    """Lets the searches of a collection follow the settings again."""
    return TuningReset(reset=tuning.reset(services, name))


@router.post("/diagnose")
def diagnose_questions(services: ServicesDep, body: DiagnoseIn) -> DiagnoseOut:
    """At which of seven points questions with known answers fail, each with its evidence."""
    cases = [_case(item, number) for number, item in enumerate(body.questions, start=1)]
    request = SearchRequest(
        query="",
        collection=body.collection,
        top_k=body.top_k or services.settings.answer.top_k,
        mode=body.mode,
        rerank=chosen_reranker(services.settings.search, body.rerank),
    )
    generator = None if body.only_search else body.generator or "auto"
    return diagnose_out(diagnose(services, cases, Asked(request=request, generator=generator)))


def _case(item: QuestionIn, number: int) -> Case:
    case = Case(
        question=item.question,
        answers=tuple(item.answers),
        expected=tuple(Expected(one.source, one.quote) for one in item.expected),
        unanswerable=item.unanswerable,
        format=item.format,
        filters=item.filters,
    )
    return checked(case, f"question {number}")
