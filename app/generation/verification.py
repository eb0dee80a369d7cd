"""Whether a sentence of an answer is carried by what it cites."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.generation.answer import Verdict
from app.generation.words import plain_figures, stems
from indexing.encoding.base import Encoder

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<=[a-z,;:] )[A-Z]\w+")
_SPACE = re.compile(r"\s+")

SUPPORTED_FROM = 0.65
PARTIAL_FROM = 0.4
_MISSING_NUMBER = 0.5
_MISSING_NAME = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """How far quotes carry a sentence: `score` in [0, 1]."""

    score: float
    verdict: Verdict


class Verifier(Protocol):
    """Judges one sentence against the quotes it cites. Safe to call from several threads."""

    def verify(self, claim: str, quotes: Sequence[str]) -> Support: ...


class OverlapVerifier:
    """Judges by the words, numbers and names that claim and quotes share, and by their likeness.

    It sees neither negation nor who did what to whom: a sentence can turn its source round and pass. A
    number or a name that no quote has is the surest sign of invention and lowers the score most.
    """

    def __init__(self, encoder: Encoder | None = None) -> None:
        self._encoder = encoder

    def verify(self, claim: str, quotes: Sequence[str]) -> Support:
        if not quotes:
            return Support(score=0.0, verdict="uncited")
        source = _SPACE.sub(" ", " ".join(quotes))
        if _SPACE.sub(" ", claim).strip().casefold() in source.casefold():
            return Support(score=1.0, verdict="supported")
        score = 0.6 * word_coverage(claim, source) + 0.4 * self._likeness(claim, source)
        if not figures(claim) <= figures(source):
            score *= _MISSING_NUMBER
        if not all(name.casefold() in source.casefold() for name in _NAME.findall(claim)):
            score *= _MISSING_NAME
        return Support(score=score, verdict=verdict_of(score))

    def _likeness(self, claim: str, source: str) -> float:
        if self._encoder is None:
            return word_coverage(claim, source)
        one, other = self._encoder.encode_documents([claim, source]).vectors
        return min(max(float(one @ other), 0.0), 1.0)


def word_coverage(claim: str, source: str) -> float:
    """Share of the claim's words that the source has; 1 for a claim without words.

    >>> word_coverage("Lions hunt zebras", "A lion hunts at night")
    0.6666666666666666
    """
    words = set(stems(claim))
    return len(words & set(stems(source))) / len(words) if words else 1.0


def figures(text: str) -> set[str]:
    """The numbers of a text, as written in figures.

    >>> sorted(figures("1,200 of 3.5"))
    ['1200', '3.5']
    """
    return set(_NUMBER.findall(plain_figures(text)))


def verdict_of(score: float) -> Verdict:
    if score >= SUPPORTED_FROM:
        return "supported"
    return "partial" if score >= PARTIAL_FROM else "unsupported"
