"""The generator protocol: a question and its passages in, events out, the last of which is the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.generation.answer import Answer, Citation, Claim
from retrievers.types import Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Further text of the answer. All deltas joined are `Answer.text`, exactly."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationAdded:
    """A footnote used for the first time; sent before the delta that holds its marker."""

    citation: Citation


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDone:
    """A sentence is complete; its text, its markers and its footnotes were sent before."""

    claim: Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The whole answer: always the last event, and sent once."""

    answer: Answer


GenerationEvent = Delta | CitationAdded | ClaimDone | Finished


class Generator(Protocol):
    """Writes answers. Implementations are safe to call from several threads."""

    @property
    def name(self) -> str:
        """What wrote the answer, as it is shown in `Answer.generator`."""

    def stream(self, question: str, passages: Sequence[Passage]) -> Iterator[GenerationEvent]:
        """Events as they come about; `passages` best first.

        Raises GenerationError, which may come after events were sent. Closing the iterator ends the work.
        """


def generate(generator: Generator, question: str, passages: Sequence[Passage]) -> Answer:
    """The answer without its coming about."""
    return finished(generator.stream(question, passages))


def finished(events: Iterable[GenerationEvent]) -> Answer:
    """The answer at the end of the events, all of which are taken."""
    answer = None
    for event in events:
        if isinstance(event, Finished):
            answer = event.answer
    if answer is None:
        raise ValueError("the generator ended without an answer")
    return answer
