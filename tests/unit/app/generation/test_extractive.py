"""Quoting answers, with the model that ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.generation.answer import Answer, explain
from app.generation.base import generate
from app.generation.extractive import ExtractiveGenerator, ExtractiveSettings
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.fake import WordEncoder
from tests.unit.app.generation.passages import NILE, library, passage


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(EncoderSpec(), Path(tmp_path_factory.mktemp("models")))


@pytest.mark.parametrize(
    ("question", "quote"),
    [
        ("What is the length of the Nile?", "It is about 6650 kilometres long."),
        ("How large is the Amazon basin?", "Its basin covers 7 million square kilometres."),
        ("Which countries border Lake Geneva?", "Lake Geneva lies between Switzerland and France."),
    ],
)
def test_the_answer_is_quoted(encoder: Encoder, question: str, quote: str) -> None:
    given = generate(ExtractiveGenerator(encoder), question, library())
    assert quote in [citation.quote for citation in given.citations]
    assert given.confidence > 0.5


@pytest.mark.parametrize(
    "question",
    ["How do I reset my password?", "Who won the world cup in 1998?", "recipe for lentil soup"],
)
def test_questions_about_something_else_are_refused(encoder: Encoder, question: str) -> None:
    given = generate(ExtractiveGenerator(encoder), question, library())
    assert (given.abstained, given.reason) == (True, "nothing_close_enough")
    assert given.confidence < 0.3
    assert given.reason is not None
    assert explain(given.reason).endswith(".")


def quoting(question: str, text: str, **changes: object) -> Answer:
    settings = ExtractiveSettings(**{"min_confidence": 0.0, **changes})  # type: ignore[arg-type]
    return generate(ExtractiveGenerator(WordEncoder(), settings), question, [passage(text)])


def test_the_number_of_sentences_is_bounded() -> None:
    text = " ".join(f"The river Nile has bend number {n}." for n in range(9))
    bound = {"score_margin": 9.0, "redundant_cosine": 1.1}
    assert len(quoting("Which bend has the river Nile?", text, max_sentences=2, **bound).claims) == 2
    assert len(quoting("Which bend has the river Nile?", text, max_sentences=5, **bound).claims) == 5


def test_nothing_is_said_twice() -> None:
    text = "The Nile is long. Rivers carry water down to the sea. The Nile is long."
    given = quoting("How long is the Nile?", text, score_margin=9.0)
    assert [claim.text for claim in given.claims].count("The Nile is long.") == 1


def test_a_sentence_that_begins_with_a_pronoun_brings_the_one_before() -> None:
    assert quoting("about 6650 kilometres long", NILE, score_margin=0.0, max_sentences=2).text == (
        "The Nile flows north through eleven countries. [1] It is about 6650 kilometres long. [2]"
    )
    alone = quoting("about 6650 kilometres long", NILE, score_margin=0.0, max_sentences=1)
    assert alone.text == "It is about 6650 kilometres long. [1]"


def test_what_stands_under_another_heading_is_not_brought() -> None:
    text = "Lakes are calm and deep.\n\n# The Nile\n\nIt is about 6650 kilometres long."
    assert "Lakes" not in quoting("about 6650 kilometres long", text, score_margin=0.0).text


def test_sentences_stand_in_the_order_of_their_text() -> None:
    given = quoting("White Nile tributaries, eleven countries", NILE, score_margin=9.0)
    starts = [citation.start for citation in given.citations]
    assert len(starts) == 3
    assert starts == sorted(starts)


def test_a_threshold_can_be_set() -> None:
    strict = ExtractiveGenerator(WordEncoder(), ExtractiveSettings(min_confidence=1.0))
    assert generate(strict, "How long is the Nile?", library()).reason == "nothing_close_enough"
