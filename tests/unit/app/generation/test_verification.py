"""How far quotes carry a sentence."""

from __future__ import annotations

import pytest

from app.generation.spans import SpanFinder
from app.generation.verification import OverlapVerifier, verdict_of
from indexing.encoding.fake import WordEncoder
from tests.unit.app.generation.passages import NILE, passage

QUOTE = "The Nile is about 6650 kilometres long and flows through Egypt."


@pytest.fixture(params=[None, WordEncoder()], ids=["words only", "with an encoder"])
def verifier(request: pytest.FixtureRequest) -> OverlapVerifier:
    return OverlapVerifier(request.param)


def test_a_quote_carries_itself(verifier: OverlapVerifier) -> None:
    support = verifier.verify("the Nile is about 6650\nkilometres long", [QUOTE])
    assert (support.score, support.verdict) == (1.0, "supported")


def test_without_a_quote_a_sentence_is_uncited(verifier: OverlapVerifier) -> None:
    support = verifier.verify("The Nile is long.", [])
    assert (support.score, support.verdict) == (0.0, "uncited")


def test_other_numbers_and_names_lower_the_score(verifier: OverlapVerifier) -> None:
    true = verifier.verify("Flowing through Egypt, the Nile is 6650 kilometres long.", [QUOTE])
    number = verifier.verify("Flowing through Egypt, the Nile is 4000 kilometres long.", [QUOTE])
    name = verifier.verify("Flowing through Chad, the Nile is 6650 kilometres long.", [QUOTE])
    assert true.verdict == "supported"
    assert max(number.score, name.score) < true.score * 0.8
    assert number.verdict != "supported"


def test_figures_may_be_written_in_two_ways(verifier: OverlapVerifier) -> None:
    claim = "The Nile is 6,650 kilometres long."
    assert verifier.verify(claim, [QUOTE]).verdict == "supported"


def test_another_matter_is_not_supported(verifier: OverlapVerifier) -> None:
    assert verifier.verify("Bread is baked at night.", [QUOTE]).verdict == "unsupported"


def test_several_quotes_carry_a_sentence_together(verifier: OverlapVerifier) -> None:
    parts = ["The Nile flows through Egypt.", "It is about 6650 kilometres long."]
    claim = "The Nile flows through Egypt and is about 6650 kilometres long."
    assert verifier.verify(claim, parts).score > verifier.verify(claim, parts[:1]).score


@pytest.mark.parametrize(("score", "verdict"), [(0.65, "supported"), (0.5, "partial"), (0.39, "unsupported")])
def test_verdicts(score: float, verdict: str) -> None:
    assert verdict_of(score) == verdict


def test_a_figure_finds_its_sentence() -> None:
    first, last = SpanFinder(WordEncoder()).find("Nile: roughly 6,650 km in length", passage(NILE))
    assert NILE[first:last] == "It is about 6650 kilometres long."


def test_a_span_lies_inside_its_passage_whatever_the_claim() -> None:
    finder = SpanFinder(WordEncoder())
    for start, end in ((0, len(NILE)), (50, 90), (3, 9)):
        first, last = finder.find("Something else entirely", passage(NILE, start, end))
        assert start <= first < last <= end
