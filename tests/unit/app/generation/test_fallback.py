"""Stepping in for a language model that cannot be reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from app.generation.base import Delta, GenerationEvent, generate
from app.generation.errors import GenerationError, LlmBadResponse, LlmRejected, LlmTimeout
from app.generation.fake import FirstSentenceGenerator
from app.generation.fallback import FallbackGenerator
from retrievers.types import Passage
from tests.unit.app.generation.passages import library


class FailingGenerator:
    """Sends some text, then fails."""

    name = "failing"

    def __init__(self, error: Exception, *, sends: str = "") -> None:
        self._error = error
        self._sends = sends

    def stream(self, question: str, passages: Sequence[Passage]) -> Iterator[GenerationEvent]:
        if self._sends:
            yield Delta(text=self._sends)
        raise self._error


@pytest.mark.parametrize("error", [LlmTimeout("Too slow."), LlmRejected("No."), LlmBadResponse("?")])
def test_a_named_error_before_any_text_is_bridged_and_noted(error: GenerationError) -> None:
    given = generate(FallbackGenerator(FailingGenerator(error), FirstSentenceGenerator()), "?", library())
    assert given.generator == "first_sentence"
    assert given.notes == (f"{error.code}: {error.detail} Answered by the generator `first_sentence`.",)
    assert given.citations


def test_an_error_after_text_passes_on() -> None:
    chosen = FallbackGenerator(FailingGenerator(LlmTimeout("Slow."), sends="Half"), FirstSentenceGenerator())
    with pytest.raises(LlmTimeout):
        generate(chosen, "?", library())


def test_a_fault_of_our_own_is_not_hidden() -> None:
    chosen = FallbackGenerator(FailingGenerator(KeyError("x")), FirstSentenceGenerator())
    with pytest.raises(KeyError):
        generate(chosen, "?", library())


def test_nothing_is_noted_when_nothing_failed() -> None:
    chosen = FallbackGenerator(FirstSentenceGenerator(), FailingGenerator(LlmTimeout("x")))
    assert generate(chosen, "?", library()).notes == ()
