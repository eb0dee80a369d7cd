"""An answer in the making: keeps text, claims and footnotes in step with the events sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.generation.answer import Answer, Claim, Usage, Verdict
from app.generation.base import CitationAdded, ClaimDone, Delta, GenerationEvent
from app.generation.citations import Footnotes
from retrievers.types import Passage

Span = tuple[Passage, int, int]
"""A passage and characters `[start, end)` of its document."""


class Draft:
    """Collects what is sent; `answer` then holds exactly that."""

    def __init__(self, generator: str) -> None:
        self._generator = generator
        self._parts: list[str] = []
        self._length = 0
        self._claims: list[Claim] = []
        self._footnotes = Footnotes()

    @property
    def length(self) -> int:
        """Characters written so far."""
        return self._length

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(self._claims)

    def write(self, text: str) -> Iterator[GenerationEvent]:
        if text:
            self._parts.append(text)
            self._length += len(text)
            yield Delta(text=text)

    def close_claim(
        self, *, start: int, end: int, spans: Sequence[Span], verdict: Verdict, support: float
    ) -> Iterator[GenerationEvent]:
        """End the sentence at characters `[start, end)` of the text: footnotes, markers, the claim."""
        numbers: dict[int, None] = {}
        for passage, first, last in spans:
            citation, new = self._footnotes.cite(passage, first, last)
            numbers[citation.n] = None
            if new:
                yield CitationAdded(citation=citation)
        claim = Claim(
            text=self.text[start:end],
            start=start,
            end=end,
            citations=tuple(numbers),
            verdict=verdict,
            support=support,
        )
        if numbers:
            yield from self.write(" " + "".join(f"[{n}]" for n in numbers))
        self._claims.append(claim)
        yield ClaimDone(claim=claim)

    def answer(
        self,
        *,
        confidence: float,
        notes: tuple[str, ...] = (),
        dropped_markers: int = 0,
        usage: Usage | None = None,
    ) -> Answer:
        return Answer(
            text=self.text,
            abstained=False,
            reason=None,
            confidence=confidence,
            claims=tuple(self._claims),
            citations=self._footnotes.citations,
            generator=self._generator,
            notes=notes,
            dropped_markers=dropped_markers,
            usage=usage,
        )
