"""Finding out where a question failed: from the text of the collection to the words of the answer.

FP1 first, then FP2, FP3 and FP4: the first that holds is the cause. An answer that rests on the right passage
is looked at for its format (FP5), its specificity (FP6) and its completeness (FP7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from app.answers.answering import GeneratorName, choose_generator
from app.db import chunks, collections, versions
from app.db import golden as questions
from app.db.golden import GoldenQuestion
from app.db.types import utc_now
from app.generation.answer import Answer
from app.generation.base import Finished, Generator
from app.generation.prompt import fitting
from app.learning import golden
from app.learning.diagnosis import Case, Diagnosis, Point
from app.learning.diagnosis_checks import Comparison, compare, contains, has_format, says
from app.learning.golden import Stale, Target
from app.search.explaining import Trace
from app.search.searching import SearchRequest, SearchResult, search
from indexing.types import Chunk
from retrievers.diagnosis import exhaustive_ranks, rank_among
from retrievers.pipeline import MARGIN
from retrievers.types import Hit, Passage, Query

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services

ORACLE_K = 50
"""Chunks that are looked at for an answer that stands nowhere word for word."""

DEPTH = 1000
"""How far down the list of the mode a missed chunk is looked for."""

Progress = Callable[[str, int, int], None]
Gold = Mapping[int, Chunk]
"""The chunks that hold the answer, by id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How the questions are asked; with `generator` None none is answered, so that FP1 to FP3 are all."""

    request: SearchRequest
    generator: GeneratorName | None = "auto"


def golden_cases(services: Services, collection: str) -> list[Case]:
    """The golden questions of a collection. Raises CollectionNotFound."""
    with services.read() as session:
        kept = questions.list_all(session, collections.get_by_name(session, collection).id)
    return [Case(question=item.question, expected=item.expected) for item in kept]


def diagnose(
    services: Services, cases: Sequence[Case], asked: Asked, progress: Progress | None = None
) -> list[Diagnosis]:
    """What became of each case. Raises what `search` and the generator raise."""
    generator = None if asked.generator is None else choose_generator(services, asked.generator)
    golds = _golds(services, cases, asked.request.collection)
    found = []
    for done, (case, gold) in enumerate(zip(cases, golds, strict=True), start=1):
        found.append(_Examination(services, asked, generator, case, gold).diagnosis())
        if progress is not None:
            progress("diagnose", done, len(cases))
    return found


@dataclass(frozen=True, slots=True)
class _Examination:
    """One case on its way from the collection to the answer."""

    services: Services
    asked: Asked
    generator: Generator | None
    case: Case
    gold: Gold

    def diagnosis(self) -> Diagnosis:
        result = search(self.services, self._request(self.case.filters))
        answer = self._answer(result.passages)
        text = None if answer is None or answer.abstained else answer.text
        points, evidence = self._failures(result, answer)
        return Diagnosis(case=self.case, failures=points, answer=text, evidence=evidence)

    def _request(self, filters: Mapping[str, Any] | None) -> SearchRequest:
        return replace(self.asked.request, query=self.case.question, filters=filters)

    def _answer(self, passages: Sequence[Passage]) -> Answer | None:
        if self.generator is None:
            return None
        for event in self.generator.stream(self.case.question, passages):
            if isinstance(event, Finished):
                return event.answer
        raise AssertionError("a generator ends with its answer")

    def _failures(
        self, result: SearchResult, answer: Answer | None
    ) -> tuple[tuple[Point, ...], dict[str, Any]]:
        answered = answer is not None and not answer.abstained
        if self.case.unanswerable:
            return (("FP1",), {"answered": True}) if answered else ((), {"refused": answer is not None})
        if not self.gold:
            return ("FP1",), {"searched": "all chunks of the collection", "answered": answered}
        trace = result.trace
        if trace is None:  # nothing was searched: a filter allows no document, or there is no index
            return self._missed(None)
        if not self._held(trace.outcome.candidates or result.passages):
            return self._missed(trace)
        dropped = self._dropped(result.passages)
        if dropped is not None:
            return ("FP3",), dropped
        if answer is None:
            return (), {"rank": self._rank(result.passages)}
        return self._judged(answer, self._prompted(result.passages))

    def _held(self, passages: Sequence[Passage]) -> bool:
        return any(passage.chunk.id in self.gold for passage in passages)

    def _rank(self, passages: Sequence[Passage]) -> int | None:
        return next((passage.rank for passage in passages if passage.chunk.id in self.gold), None)

    def _missed(self, trace: Trace | None) -> tuple[tuple[Point, ...], dict[str, Any]]:
        """FP2, or FP3 where only the filter keeps out what a search without it finds."""
        if self.case.filters is not None:
            freed = search(self.services, self._request(None))
            if self._held(freed.passages):
                return ("FP3",), {"stage": "filter", "rank": self._rank(freed.passages)}
        return ("FP2",), {"ranks": {} if trace is None else self._ranks(trace), "top_k": self._depth(trace)}

    def _ranks(self, trace: Trace) -> dict[str, int | None]:
        """Where the best chunk that holds the answer stands, in each list and in the mode's."""
        query = trace.searched or Query(text=self.case.question)
        pipeline = trace.pipeline
        transformed = pipeline.transform(self.case.question)
        hits: Sequence[Hit] = pipeline.retrieve(list(trace.outcome.queries), transformed, DEPTH + MARGIN)
        ranks: dict[str, int | None] = {**exhaustive_ranks(trace.index.snapshot, query, self.gold)}
        return ranks | {trace.mode: rank_among(hits, self.gold)}

    def _depth(self, trace: Trace | None) -> int:
        top_k = self.asked.request.top_k
        if trace is None or trace.pipeline.reranker is None:
            return top_k
        return max(top_k, trace.pipeline.rerank_k)

    def _dropped(self, passages: Sequence[Passage]) -> dict[str, Any] | None:
        """At which stage the passage was dropped between retrieval and prompt; None where it was not."""
        if not self._held(passages):
            return {"stage": "rerank", "top_k": self.asked.request.top_k}
        if not self._covers(self._prompted(passages)):
            budget = self.services.settings.llm.context_tokens
            return {"stage": "token_budget", "context_tokens": budget, "rank": self._rank(passages)}
        return None

    def _prompted(self, passages: Sequence[Passage]) -> Sequence[Passage]:
        """The passages that the generator gets to see."""
        if self.generator is None or self.generator is self.services.extractive:
            return passages
        count = self.services.encoders.get(self.services.encoder_spec()).count_tokens
        budget = self.services.settings.llm.context_tokens
        return [passage for passage, _ in fitting(passages, context_tokens=budget, count_tokens=count)]

    def _covers(self, passages: Sequence[Passage]) -> bool:
        """Whether the text of a chunk that holds the answer is there, maybe within a longer passage."""
        return any(
            passage.chunk.document_id == chunk.document_id
            and passage.chunk.start <= chunk.start
            and chunk.end <= passage.chunk.end
            for passage in passages
            for chunk in self.gold.values()
        )

    def _judged(
        self, answer: Answer, prompted: Sequence[Passage]
    ) -> tuple[tuple[Point, ...], dict[str, Any]]:
        """FP4 to FP7, of an answer that had what it needed."""
        compared = self._compared(answer)
        if answer.abstained or compared is None or compared.verdict == "wrong":
            right = not answer.abstained and compared is None and self._cites(answer)
            if not right:
                return ("FP4",), self._not_extracted(answer, prompted)
        points: list[Point] = []
        evidence: dict[str, Any] = {}
        if self.case.format is not None and not has_format(answer.text, self.case.format):
            points.append("FP5")
            evidence["format"] = self.case.format
        if compared is not None and (compared.too_long or compared.verdict == "too_general"):
            points.append("FP6")
            evidence["specificity"] = "too_long" if compared.too_long else "too_general"
        if compared is not None and compared.verdict == "partial":
            evidence["missing"] = list(compared.missing)
            evidence["in_context"] = [
                claim
                for claim in compared.missing
                if any(says(passage.chunk.text, claim) for passage in prompted)
            ]
            points.append("FP7" if evidence["in_context"] else "FP2")
        return tuple(points), evidence

    def _compared(self, answer: Answer) -> Comparison | None:
        """Beside the known answers, else beside the quotations; None where only a document is known."""
        quotes = [item.quote for item in self.case.expected if item.quote is not None]
        references = self.case.answers or tuple(quotes)
        return compare(answer.text, references) if references else None

    def _cites(self, answer: Answer) -> bool:
        documents = {chunk.document_id for chunk in self.gold.values()}
        return any(citation.document_id in documents for citation in answer.citations)

    def _not_extracted(self, answer: Answer, prompted: Sequence[Passage]) -> dict[str, Any]:
        """With the first passage that holds the answer alone, is it found?"""
        alone = next((passage for passage in prompted if passage.chunk.id in self.gold), None)
        again = None if alone is None else self._answer([replace(alone, rank=1)])
        found = False
        if again is not None and not again.abstained:
            compared = self._compared(again)
            found = self._cites(again) if compared is None else compared.verdict in ("right", "partial")
        return {
            "rank": self._rank(prompted),
            "abstained": answer.reason if answer.abstained else None,
            "right_with_the_passage_alone": found,
        }


def _golds(services: Services, cases: Sequence[Case], collection: str) -> list[Gold]:
    """For each case the chunks that hold its answer; the whole text is gone through once for all cases."""
    with services.read() as session:
        row = collections.get_by_name(session, collection)
        if row.active_version_id is None:
            return [{} for _ in cases]
        chunker = versions.get(session, row.active_version_id).chunker_fingerprint
        asked = [_as_question(case) for case in cases]
        targets = golden.targets_of(session, row.id, asked)
        placed = [
            _chunks_of(session, chunker, [targets[item] for item in case.expected], case) for case in cases
        ]
        sought = {number: case for number, case in enumerate(cases) if case.answers and not case.expected}
        verbatim: dict[int, list[int]] = {number: [] for number in sought}
        if sought:
            for chunk_id, _, text in chunks.iterate_texts(session, row.id, chunker):
                for number, case in sought.items():
                    if any(contains(text, answer) for answer in case.answers):
                        verbatim[number].append(chunk_id)
    for number, case in sought.items():
        ids = verbatim[number] or _by_words(services, row.id, row.active_version_id, case)
        with services.read() as session:
            placed[number] = {key: kept.chunk for key, kept in chunks.load_passages(session, ids).items()}
    return placed


def _chunks_of(session: Session, chunker: str, targets: Sequence[Target | Stale], case: Case) -> Gold:
    """The chunks of expected places: those with half of a quotation; of a document those that say the answer,
    or else all."""
    found: dict[int, Chunk] = {}
    for target in targets:
        if not isinstance(target, Target):
            continue
        own = chunks.of_document(session, target.document_id, chunker=chunker)
        if target.spans is not None:
            own = [chunk for chunk in own if any(_holds_half(chunk, span) for span in target.spans)]
        elif case.answers:
            saying = [chunk for chunk in own if any(contains(chunk.text, each) for each in case.answers)]
            own = saying or own
        found.update({chunk.id: chunk for chunk in own})
    return found


def _holds_half(chunk: Chunk, span: tuple[int, int]) -> bool:
    start, end = span
    return 2 * (min(end, chunk.end) - max(start, chunk.start)) >= end - start


def _by_words(services: Services, collection_id: int, version_id: str, case: Case) -> list[int]:
    """Chunks that say the answer in most of its words, among those nearest to it: an oracle's search."""
    index = services.indexes.serving(collection_id, version_id)
    found: list[int] = []
    for answer in case.answers:
        near = index.snapshot.lexical.search(answer, ORACLE_K).chunk_ids.tolist()
        with services.read() as session:
            rows = chunks.load_passages(session, near, collection_id=collection_id)
        found += [chunk_id for chunk_id, kept in rows.items() if says(kept.chunk.text, answer)]
    return found


def _as_question(case: Case) -> GoldenQuestion:
    return GoldenQuestion(id=0, question=case.question, expected=case.expected, created_at=utc_now())
