"""Sentence spans: tricky cases by example, coverage and exactness as properties."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.sentences import LONGEST_SENTENCE_CHARS, split_sentences


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text)]


@pytest.mark.parametrize(
    "whole",
    [
        "Dr. Lee met Mr. J. R. Hall and Prof. Ito at the gate.",
        "The drop is shown in Fig. 3 and Eq. (4) of Ref. 12.",
        "Smith et al. said that this holds, i.e. always, e.g. at night.",
        "He moved to the U.S. in Jan. 2020 and paid $3.50 a day.",
        "Version 1.2.3 of node.js is at https://a.example/b.c?d=e.f and works.",
        "See No. 5, pp. 3 and p. 9.",
        "“Is it so?” he asked.",
        "Yahoo! is a company.",
        "It took 3 p.m. trains and approx. five hours.",
        "1. The first item",
        "The U.S. Army vs. the rest.",
        "Acme Inc. Holdings grew.",
    ],
)
def test_no_sentence_ends_inside(whole: str) -> None:
    assert sentences(whole) == [whole]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rained. He left! Why? Nobody knew…", ["It rained.", "He left!", "Why?", "Nobody knew…"]),
        ("He lives in the U.S. The rent is high.", ["He lives in the U.S.", "The rent is high."]),
        ("They met at 5 p.m. It was dark.", ["They met at 5 p.m.", "It was dark."]),
        ("The answer is no. She left.", ["The answer is no.", "She left."]),
        ('He said "stop." Then (he ran.) Done.', ['He said "stop."', "Then (he ran.)", "Done."]),
        ("gas flow . the second test", ["gas flow .", "the second test"]),
        ("tested in water. the third", ["tested in water.", "the third"]),
        ("It grew 5%. 12 people came.", ["It grew 5%.", "12 people came."]),
        ("one line\nand the next. Then\nmore", ["one line\nand the next.", "Then\nmore"]),
        ("A title\n\nA text", ["A title", "A text"]),
        ("# A title\nA text", ["# A title", "A text"]),
        ("Items:\n- one\n- two. More\n2) three", ["Items:", "- one", "- two.", "More", "2) three"]),
        ("a | b\n1 | 2\n\n| c | d |\ntext", ["a | b", "1 | 2", "| c | d |", "text"]),
        ("Title\n=====\nText", ["Title", "=====", "Text"]),
        ("```\nx = 1\n```\nText", ["```", "x = 1", "```", "Text"]),
        ("東京は首都です。大きい！", ["東京は首都です。", "大きい！"]),
        ("... and so on ... Then", ["... and so on ...", "Then"]),
        (" \n\t \n", []),
        ("", []),
        (".", ["."]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_spans_are_moved_by_start() -> None:
    assert split_sentences(" It rained. He left.", 100) == [(101, 111), (112, 120)]


def test_long_run_without_an_end_is_taken_line_by_line() -> None:
    rows = [f"row {number} of a table with no full stop anywhere in it" for number in range(40)]
    text = "\n".join(rows)
    assert len(text) > LONGEST_SENTENCE_CHARS
    assert sentences(text) == rows


PIECES = [*".!?…。-#|()”é3", "Dr.", "Fig.", "U.S.", "1.", "The", "word", "漢字", "```", "---"]
SPACES = [" ", "  ", "\n", "\n\n", "\t", " | ", "- ", "# ", "\u00a0", "\u2028", "\f"]
TRICKY = st.lists(st.sampled_from(PIECES + SPACES * 2), max_size=60).map("".join)


@given(st.one_of(TRICKY, st.text(max_size=200)))
@settings(max_examples=200, deadline=None)
def test_spans_are_trimmed_ordered_and_cover_the_text(text: str) -> None:
    spans = split_sentences(text)
    covered = 0
    for start, end in spans:
        assert covered <= start < end <= len(text)
        assert not text[covered:start].strip()
        assert text[start:end] == text[start:end].strip()
        assert "\n\n" not in text[start:end]
        covered = end
    assert not text[covered:].strip()


@given(TRICKY, st.integers(0, 5000))
@settings(max_examples=50, deadline=None)
def test_start_moves_every_span(text: str, start: int) -> None:
    assert split_sentences(text, start) == [(a + start, b + start) for a, b in split_sentences(text)]


@pytest.mark.parametrize(
    "unit",
    [".", ". ", "a", "\n| ", " ", "\n", "x | y\n", "=\n", ". (((", "'", ".'", "\n- ", "#", "e.g. ", "1. "],
)
def test_time_grows_with_the_text_alone(unit: str) -> None:
    text = (unit * 300_000)[:300_000] + "x"
    began = time.process_time()
    split_sentences(text)
    assert time.process_time() - began < 5
