"""What models write when asked for questions and passages, and that nothing they write does harm."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing.replies import (
    MAX_PASSAGE_CHARS,
    MAX_QUERY_CHARS,
    parse_passage,
    parse_queries,
)

TWO = ("How long is the Nile?", "Which rivers feed it?")


@pytest.mark.parametrize(
    "text",
    [
        "How long is the Nile?\nWhich rivers feed it?",
        "\n\n  How long is the Nile?  \n\n\nWhich rivers feed it?\n",
        "1. How long is the Nile?\n2. Which rivers feed it?",
        "1) How long is the Nile?\n2) Which rivers feed it?",
        "(1) How long is the Nile?\n(2) Which rivers feed it?",
        "a) How long is the Nile?\nb) Which rivers feed it?",
        "Q1: How long is the Nile?\nQ2: Which rivers feed it?",
        "- How long is the Nile?\n- Which rivers feed it?",
        "* **How long is the Nile?**\n* **Which rivers feed it?**",
        "• “How long is the Nile?”\n• “Which rivers feed it?”",
        "Here are the questions:\nHow long is the Nile?\nWhich rivers feed it?",
        "Sure! I hope this helps.\n\n1. How long is the Nile?\n2. Which rivers feed it?\n\nAnything else?",
        "Question 1: How long is the Nile?\nQuestion 2: Which rivers feed it?",
        '"How long is the Nile?"\n"Which rivers feed it?"',
        json.dumps(TWO),
        json.dumps({"questions": TWO}),
        json.dumps([{"question": text} for text in TWO]),
        json.dumps({"q1": TWO[0], "q2": TWO[1]}),
        f"```json\n{json.dumps(TWO)}\n```",
        f"Of course:\n```\n{TWO[0]}\n{TWO[1]}\n```\nGood luck!",
        f"Here you are: {json.dumps(TWO)} (two of them)",
        "How long is the Nile?\nhow long is  the nile\nWhich rivers feed it?\nWhich rivers feed it?",
    ],
)
def test_questions_are_found_however_they_are_written(text: str) -> None:
    assert parse_queries(text, limit=5) == TWO


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "...",
        "\x00\x00",
        "[]",
        "{}",
        "[[]]",
        "[1, 2]",
        '{"questions": []}',
        "null",
        "```\n```",
        "Questions:",
        "—\n***",
    ],
)
def test_nothing_usable_is_nothing(text: str) -> None:
    assert parse_queries(text, limit=5) == ()


def test_half_a_list_is_read_as_lines() -> None:
    assert parse_queries('["How long is the Nile?", "Which riv', limit=1)[0].startswith("[")
    assert parse_queries("1. How long is the Nile?\n2. Which rivers feed it?\n3.", limit=5) == TWO


def test_the_query_itself_is_no_further_question() -> None:
    assert parse_queries("how long is the NILE\nWhich rivers feed it?", limit=5, without=TWO[0]) == TWO[1:]


def test_numbers_that_belong_to_a_question_stay() -> None:
    assert parse_queries("1.5 million people live where?\n1999 was what year?", limit=5) == (
        "1.5 million people live where?",
        "1999 was what year?",
    )


def test_what_is_too_long_for_a_question_is_none() -> None:
    assert parse_queries("x" * (MAX_QUERY_CHARS + 1) + "\nshort", limit=5) == ("short",)


def test_deep_json_is_no_trap() -> None:
    assert parse_queries("[" * 15_000, limit=5) == ()


@given(st.text(max_size=300), st.integers(0, 5))
def test_whatever_comes_in_few_clean_distinct_texts_come_out(text: str, limit: int) -> None:
    found = parse_queries(text, limit=limit)
    assert len(found) <= limit
    assert len({query.casefold() for query in found}) == len(found)
    for query in found:
        assert query == " ".join(query.split()) != ""
        assert len(query) <= MAX_QUERY_CHARS
        query.encode()  # no lone surrogate
        assert not any(ord(character) < 32 for character in query)


@pytest.mark.parametrize(
    "text",
    [
        "The Nile is 6650 km long.",
        "Passage: The Nile is 6650 km long.",
        "**Passage:**\nThe Nile is\n6650 km long.",
        "```\nThe Nile is 6650 km long.\n```",
        '"The Nile is 6650 km long."',
        "The Nile is\x00 6650 km long.\n",
    ],
)
def test_the_passage_is_found(text: str) -> None:
    assert parse_passage(text) == "The Nile is 6650 km long."


@given(st.text(max_size=300) | st.text(min_size=1, max_size=2).map(lambda part: part * 20_000))
def test_a_passage_is_short_and_clean(text: str) -> None:
    passage = parse_passage(text)
    assert len(passage) <= MAX_PASSAGE_CHARS
    passage.encode()
    assert passage == "" or any(map(str.isalnum, passage))
