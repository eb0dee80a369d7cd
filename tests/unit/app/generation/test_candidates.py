"""Which parts of a passage an answer may quote."""

from __future__ import annotations

import pytest

from app.generation.candidates import candidates
from tests.unit.app.generation.passages import passage


def quotable(text: str) -> list[str]:
    return [candidate.text for candidate in candidates([passage(text)])]


@pytest.mark.parametrize(
    "unquotable",
    [
        "When the kettle boils over although it is watched",
        "Title: Of tea and pots\nAuthor: A. Leaf\nStatus: Active and well",
        "# How to make a pot of tea",
        "```\ntea --pot large --leaves two spoons --minutes 4\n```",
    ],
    ids=["heading", "fields", "markdown-heading", "code"],
)
def test_headings_fields_and_code_are_not_sentences(unquotable: str) -> None:
    text = f"{unquotable}\n\nWarm the pot with hot water first.\n"
    assert quotable(text) == ["Warm the pot with hot water first."]


def test_a_row_of_a_table_is_quotable_and_known_as_one() -> None:
    text = "| pot | leaves | minutes of drawing |\n\nWarm the pot with hot water first.\n"
    assert [candidate.is_row for candidate in candidates([passage(text)])] == [True, False]


def test_items_of_a_list_are_quotable_without_a_full_stop() -> None:
    text = "These are the steps.\n\n- warm the pot with hot water\n- put two spoons of leaves in\n"
    assert len(quotable(text)) == 3


def test_what_is_not_a_sentence_is_quoted_where_there_is_nothing_else() -> None:
    assert quotable("Minutes of drawing: 4") == ["Minutes of drawing: 4"]
