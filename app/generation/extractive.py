"""Answers without a language model: the sentences that answer the question, quoted and cited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.answer import abstention
from app.generation.base import Finished, GenerationEvent
from app.generation.candidates import candidates
from app.generation.draft import Draft
from app.generation.scoring import Scored, score
from indexing.encoding.base import Encoder
from retrievers.types import Passage

DEFAULT_MIN_CONFIDENCE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractiveSettings:
    """`min_confidence` None takes the calibrated threshold; sentences are chosen while they are at least
    `relative_score` of the best one, and unlike (cosine at most `redundant_cosine`) those chosen before."""

    max_sentences: int = 3
    min_confidence: float | None = None
    relative_score: float = 0.85
    redundant_cosine: float = 0.9


class ExtractiveGenerator:
    """Quotes sentences verbatim, each with its footnote, or abstains when none is close enough."""

    def __init__(self, encoder: Encoder, settings: ExtractiveSettings | None = None) -> None:
        self._encoder = encoder
        self._settings = settings or ExtractiveSettings()

    @property
    def name(self) -> str:
        return "extractive"

    def stream(self, question: str, passages: Sequence[Passage]) -> Iterator[GenerationEvent]:
        quotable = candidates(passages)
        if not quotable:
            yield Finished(answer=abstention("no_passages", generator=self.name))
            return
        scored = score(self._encoder, question, quotable)
        if scored.confidence < self._min_confidence:
            yield Finished(
                answer=abstention("nothing_close_enough", generator=self.name, confidence=scored.confidence)
            )
            return
        yield from self._quote(scored)

    @property
    def _min_confidence(self) -> float:
        chosen = self._settings.min_confidence
        return DEFAULT_MIN_CONFIDENCE if chosen is None else chosen

    def _quote(self, scored: Scored) -> Iterator[GenerationEvent]:
        draft = Draft(self.name)
        for at in readable_order(scored, choose(scored, self._settings)):
            candidate = scored.candidates[at]
            if draft.length:
                yield from draft.write(" ")
            start = draft.length
            yield from draft.write(candidate.text)
            yield from draft.close_claim(
                start=start,
                end=draft.length,
                spans=[(candidate.passage, candidate.start, candidate.end)],
                verdict="supported",
                support=1.0,
            )
        yield Finished(answer=draft.answer(confidence=scored.confidence))


def choose(scored: Scored, settings: ExtractiveSettings) -> list[int]:
    """Places of the chosen candidates, best first."""
    chosen: list[int] = []
    order = np.argsort(-scored.scores, kind="stable")
    least = settings.relative_score * float(scored.scores[order[0]])
    for at in order:
        if len(chosen) == settings.max_sentences or (chosen and scored.scores[at] < least):
            break
        alike = scored.vectors[chosen] @ scored.vectors[at] if chosen else np.zeros(1)
        if float(alike.max()) <= settings.redundant_cosine:
            chosen.append(int(at))
    return chosen


def readable_order(scored: Scored, chosen: Sequence[int]) -> list[int]:
    """The chosen ones document by document, the best document first, in the order of its text."""
    documents: dict[int, int] = {}
    for at in chosen:
        documents.setdefault(scored.candidates[at].passage.chunk.document_id, len(documents))
    return sorted(
        chosen,
        key=lambda at: (
            documents[scored.candidates[at].passage.chunk.document_id],
            scored.candidates[at].start,
        ),
    )
