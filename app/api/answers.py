"""Answers: whole, or as server-sent events while they are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from app.answers.answering import AnswerEvent, AnswerResult, answer, stream_answer
from app.api.schemas.answers import AnswerIn, AnswerOut, answer_out, citation_out, claim_out
from app.api.schemas.search import hit_out
from app.deps import ServicesDep
from app.generation.base import CitationAdded, ClaimDone, Delta, Finished
from app.problems import problem_of
from app.search.rerankers import chosen_reranker
from app.search.searching import SearchRequest, SearchResult

router = APIRouter(prefix="/v1", tags=["answer"])

STREAM = {"text/event-stream": {"schema": {"type": "string"}}}


@router.post("/answer", response_model=AnswerOut, responses={200: {"content": STREAM}})
def answer_route(services: ServicesDep, body: AnswerIn) -> AnswerOut | Response:
    """An answer in which every sentence carries a footnote, or an abstention with its reason.

    With `stream`, server-sent events: `hits`, then `delta`, `citation` and `claim` as the answer grows, then
    `done` with the whole answer; or `error` with a problem.
    """
    request = SearchRequest(
        query=body.query,
        collection=body.collection,
        top_k=body.top_k or services.settings.answer.top_k,
        mode=body.mode,
        filters=body.filters,
        transform=body.transform,
        rerank=chosen_reranker(services.settings.search, body.rerank),
    )
    if not body.stream:
        return answer_out(answer(services, request, body.generator))
    events = stream_answer(services, request, body.generator)
    # Before the status line is sent: a search that cannot be done is refused as it is without a stream.
    found = next(events)
    return EventSourceResponse(_sent(chain([found], events)))


def _sent(events: Iterable[AnswerEvent]) -> Iterator[ServerSentEvent]:
    try:
        for event in events:
            match event:
                case SearchResult():
                    yield _event(
                        "hits", [hit_out(passage).model_dump(mode="json") for passage in event.passages]
                    )
                case Delta():
                    yield _event("delta", {"text": event.text})
                case CitationAdded():
                    yield _event("citation", citation_out(event.citation).model_dump(mode="json"))
                case ClaimDone():
                    yield _event("claim", claim_out(event.claim).model_dump(mode="json"))
                case AnswerResult():
                    yield _event("done", answer_out(event).model_dump(mode="json"))
                case Finished():
                    pass  # its answer comes with the result
    except Exception as error:
        # The status line is gone: the same body that a problem response would have goes out as an event.
        yield _event("error", problem_of(error).body())


def _event(name: str, data: Any) -> ServerSentEvent:
    return ServerSentEvent(data=json.dumps(data, ensure_ascii=False), event=name)
