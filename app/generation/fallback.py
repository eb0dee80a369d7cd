"""A generator that steps in for another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from app.generation.base import Finished, GenerationEvent, Generator
from app.generation.errors import GenerationError
from retrievers.types import Passage


class FallbackGenerator:
    """Answers by `primary`; by `fallback`, with a note, when that fails before anything was sent.

    Later the error passes on: what was sent cannot be taken back.
    """

    def __init__(self, primary: Generator, fallback: Generator) -> None:
        self._primary = primary
        self._fallback = fallback

    @property
    def name(self) -> str:
        return self._primary.name

    def stream(self, question: str, passages: Sequence[Passage]) -> Iterator[GenerationEvent]:
        sent = False
        try:
            for event in self._primary.stream(question, passages):
                sent = True
                yield event
            return
        except GenerationError as error:
            if sent:
                raise
            note = f"{error.code}: {error.detail} Answered by the generator `{self._fallback.name}`."
        for event in self._fallback.stream(question, passages):
            if isinstance(event, Finished):
                yield Finished(answer=replace(event.answer, notes=(*event.answer.notes, note)))
            else:
                yield event
