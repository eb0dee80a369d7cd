"""Answers without a language model: the sentences that answer the question, quoted and cited."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.generation.answer import abstention
from app.generation.base import Finished, GenerationEvent
from app.generation.candidates import Candidate, candidates
from app.generation.draft import Draft
from app.generation.scoring import Scored, score
from indexing.encoding.base import Encoder
from retrievers.types import Passage

DEFAULT_MIN_CONFIDENCE = 0.4

_POINTS_BACK = re.compile(
    r"(?:He|She|It|They|This|These|Those|That|His|Her|Their|Its|Such|The (?:former|latter))\b"
)

_GAP = 2
"""Characters between two sentences of one paragraph, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractiveSettings:
    """How much is quoted, and from what confidence on.

    Sentences follow the best one while their score is at most `score_margin` lower, and unlike those chosen
    before: cosine at most `redundant_cosine`. `min_confidence` None takes the calibrated threshold.
    """

    max_sentences: int = 3
    min_confidence: float | None = None
    score_margin: float = 0.1
    redundant_cosine: float = 0.9


class ExtractiveGenerator:
    """Quotes sentences verbatim, each with its footnote, or abstains when none is close enough."""

    def __init__(self, encoder: Encoder, settings: ExtractiveSettings | None = None) -> None:
        self._encoder = encoder
        self._settings = settings or ExtractiveSettings()

    @property
    def name(self) -> str:
        return "extractive"

    @property
    def min_confidence(self) -> float:
        chosen = self._settings.min_confidence
        return DEFAULT_MIN_CONFIDENCE if chosen is None else chosen

    def stream(self, question: str, passages: Sequence[Passage]) -> Iterator[GenerationEvent]:
        quotable = candidates(passages)
        if not quotable:
            yield Finished(answer=abstention("no_passages", generator=self.name))
            return
        scored = score(self._encoder, question, quotable)
        confidence = scored.closeness.confidence
        if confidence < self.min_confidence:
            answer = abstention("nothing_close_enough", generator=self.name, confidence=confidence)
            yield Finished(answer=answer)
            return
        chosen = choose(scored, self._settings)
        chosen = with_antecedents(chosen, quotable, self._settings.max_sentences)
        yield from self._quote(in_reading_order(chosen), confidence)

    def _quote(self, sentences: Sequence[Candidate], confidence: float) -> Iterator[GenerationEvent]:
        draft = Draft(self.name)
        for sentence in sentences:
            if draft.length:
                yield from draft.write(" ")
            start = draft.length
            yield from draft.write(sentence.text)
            yield from draft.close_claim(
                start=start,
                end=draft.length,
                spans=[(sentence.passage, sentence.start, sentence.end)],
                verdict="supported",
                support=1.0,
            )
        yield Finished(answer=draft.answer(confidence=confidence))


def choose(scored: Scored, settings: ExtractiveSettings) -> list[Candidate]:
    """The best sentence and those nearly as good that say something else, best first."""
    order = np.argsort(-scored.scores, kind="stable")
    least = float(scored.scores[order[0]]) - settings.score_margin
    chosen: list[int] = []
    for at in order:
        if len(chosen) == settings.max_sentences or scored.scores[at] < least:
            break
        if (
            not chosen
            or float((scored.vectors[chosen] @ scored.vectors[at]).max()) <= settings.redundant_cosine
        ):
            chosen.append(int(at))
    return [scored.candidates[at] for at in chosen]


def with_antecedents(
    chosen: Sequence[Candidate], quotable: Sequence[Candidate], max_sentences: int
) -> list[Candidate]:
    """Adds the sentence just before one that begins with a pronoun, while there is room."""
    following = {(candidate.place, candidate.ordinal + 1): candidate for candidate in quotable}
    whole = list(chosen)
    for sentence in chosen:
        before = following.get((sentence.place, sentence.ordinal))
        if before is None or before in whole or len(whole) >= max_sentences:
            continue
        if _POINTS_BACK.match(sentence.text) and sentence.start - before.end <= _GAP:
            whole.append(before)
    return whole


def in_reading_order(chosen: Sequence[Candidate]) -> list[Candidate]:
    """Document by document, the best document first, each in the order of its text."""
    documents: dict[int, int] = {}
    for sentence in chosen:
        documents.setdefault(sentence.passage.chunk.document_id, len(documents))
    return sorted(
        chosen, key=lambda sentence: (documents[sentence.passage.chunk.document_id], sentence.start)
    )
