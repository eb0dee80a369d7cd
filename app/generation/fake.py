"""A generator one can follow by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.generation.answer import abstention
from app.generation.base import Finished, GenerationEvent
from app.generation.candidates import candidates
from app.generation.draft import Draft
from retrievers.types import Passage


class FirstSentenceGenerator:
    """Quotes the first sentence of the first passage, whatever the question is."""

    @property
    def name(self) -> str:
        return "first_sentence"

    def stream(self, question: str, passages: Sequence[Passage]) -> Iterator[GenerationEvent]:  # noqa: ARG002
        quotable = candidates(passages)
        if not quotable:
            yield Finished(answer=abstention("no_passages", generator=self.name))
            return
        first = quotable[0]
        draft = Draft(self.name)
        yield from draft.write(first.text)
        yield from draft.close_claim(
            start=0,
            end=draft.length,
            spans=[(first.passage, first.start, first.end)],
            verdict="supported",
            support=1.0,
        )
        yield Finished(answer=draft.answer(confidence=1.0))
