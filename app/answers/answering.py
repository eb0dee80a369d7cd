"""Answering a question: search, then generate; every claim cited, or an abstention with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from app.db import documents
from app.errors import InvalidRequest
from app.generation.answer import Answer, Citation
from app.generation.base import CitationAdded, Finished, GenerationEvent
from app.search.searching import SearchRequest, SearchResult, search
from app.versions.preparing import page_at
from retrievers.timings import Timings

if TYPE_CHECKING:
    from app.generation.base import Generator
    from app.services import Services
    from retrievers.types import Passage

GeneratorName = Literal["auto", "extractive", "llm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerResult:
    """An answer with the passages it could rest on."""

    answer: Answer
    search: SearchResult
    timings_ms: dict[str, float]


AnswerEvent = SearchResult | GenerationEvent | AnswerResult
"""What a stream is made of."""


def answer(
    services: Services, request: SearchRequest, generator: GeneratorName | None = None
) -> AnswerResult:
    """The whole answer. Raises what `search` raises, and GenerationError."""
    for event in stream_answer(services, request, generator):
        if isinstance(event, AnswerResult):
            return event
    raise AssertionError("a stream ends with its result")


def stream_answer(
    services: Services, request: SearchRequest, generator: GeneratorName | None = None
) -> Iterator[AnswerEvent]:
    """The passages, then the events of the generator as they come, then the result."""
    chosen = choose_generator(services, generator or services.settings.answer.generator)
    found = search(services, request)
    yield found
    timings = Timings(dict(found.timings_ms))
    timings.ms.pop("total")
    final: Answer | None = None
    events = _paged(services, found.passages, chosen.stream(request.query, found.passages))
    while True:
        with timings.stage("generate"):
            event = next(events, None)
        if event is None:
            break
        if isinstance(event, Finished):
            final = event.answer
        yield event
    assert final is not None, "a generator ends with its answer"
    yield AnswerResult(answer=final, search=found, timings_ms=timings.rounded())


def _paged(
    services: Services, passages: Sequence[Passage], events: Iterator[GenerationEvent]
) -> Iterator[GenerationEvent]:
    """The events with each citation on the page where it begins: a chunk may go on over several pages."""
    with services.read() as session:
        pages = documents.pages_of(session, {passage.chunk.document_id for passage in passages})

    def placed(citation: Citation) -> Citation:
        on = page_at(pages.get(citation.document_id, ()), citation.start)
        return citation if on is None else replace(citation, page=on)

    for event in events:
        if isinstance(event, CitationAdded):
            yield replace(event, citation=placed(event.citation))
        elif isinstance(event, Finished):
            citations = tuple(placed(citation) for citation in event.answer.citations)
            yield replace(event, answer=replace(event.answer, citations=citations))
        else:
            yield event


def choose_generator(services: Services, name: GeneratorName) -> Generator:
    """Raises InvalidRequest (`llm_not_configured`) when a language model is asked for and none is set."""
    if name == "extractive" or (name == "auto" and services.llm is None):
        return services.extractive
    if services.llm is None:
        raise InvalidRequest(
            "No language model is set up: set FOOTNOTE_LLM_BASE_URL and FOOTNOTE_LLM_MODEL.",
            code="llm_not_configured",
        )
    return services.llm
