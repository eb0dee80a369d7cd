"""Markers in a stream, and the numbering of footnotes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.generation.citations import Footnotes, Marker, MarkerReader, marker_numbers, without_markers
from tests.unit.app.generation.passages import NILE, passage


def read(pieces: list[str]) -> list[str | tuple[int, ...]]:
    """Text and marker numbers; neighbouring text joined."""
    reader = MarkerReader()
    found = [part for piece in pieces for part in reader.feed(piece)] + list(reader.close())
    joined: list[str | tuple[int, ...]] = []
    for part in found:
        if isinstance(part, Marker):
            joined.append(part.numbers)
        elif joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A [1].", ["A ", (1,), "."]),
        ("A [1][2].", ["A ", (1,), (2,), "."]),
        ("A [1, 2; 4].", ["A ", (1, 2, 4), "."]),
        ("A [1-3].", ["A ", (1, 2, 3), "."]),
        ("A [1–2, 5].", ["A ", (1, 2, 5), "."]),
        ("A [1 and 2]", ["A ", (1, 2)]),
        ("A [^1].", ["A ", (1,), "."]),
        ("A【1】B【2†source】", ["A", (1,), "B", (2,)]),
        ("A [Passage 3] [source #4]", ["A ", (3,), " ", (4,)]),
        ("A [ 7 ]", ["A ", (7,)]),
        ("A [2024]", ["A ", (2024,)]),
        ("A [1-9999]", ["A ", (1, 9999)]),
        ("a[i] [sic] [x1] [] [1a] [see 2] (3)", ["a[i] [sic] [x1] [] [1a] [see 2] (3)"]),
        ("cut off [12", ["cut off ", ()]),
        ("cut off [", ["cut off ["]),
        ("[[1]]", ["[", (1,), "]"]),
    ],
)
def test_markers_as_models_write_them(text: str, expected: list[str | tuple[int, ...]]) -> None:
    assert read([text]) == expected
    assert read(list(text)) == expected


@given(
    st.lists(st.sampled_from([*"ab .,[]【】†-^123", "[1]", "[2, 3]", "passage "]), max_size=30).map("".join),
    st.lists(st.integers(1, 6), min_size=1),
)
def test_the_cutting_of_the_stream_changes_nothing(text: str, sizes: list[int]) -> None:
    pieces: list[str] = []
    at = 0
    while at < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[at : at + size])
        at += size
    assert read(pieces) == read([text])


@given(st.text(max_size=60))
def test_text_without_brackets_passes_whole(text: str) -> None:
    plain = text.replace("[", "").replace("【", "")
    assert read(list(plain)) == ([plain] if plain else [])


def test_a_wide_range_does_not_become_a_thousand_numbers() -> None:
    assert len(marker_numbers("1-1000000")) == 2


def test_markers_of_a_document_lose_their_brackets() -> None:
    assert without_markers("x [1] y【2】[z]") == "x (1) y(2)[z]"


def test_numbers_follow_first_use() -> None:
    notes = Footnotes()
    one, two = passage(NILE, document=1), passage(NILE, document=2)
    numbers = [notes.cite(two, 0, 5), notes.cite(one, 0, 5), notes.cite(two, 0, 5)]
    assert [(citation.n, new) for citation, new in numbers] == [(1, True), (2, True), (1, False)]


def test_one_span_through_two_overlapping_chunks_is_one_footnote() -> None:
    notes = Footnotes()
    first, _ = notes.cite(passage(NILE, 0, 100), 47, 80)
    again, new = notes.cite(passage(NILE, 40, 140), 47, 80)
    inside, _ = notes.cite(passage(NILE, 40, 140), 50, 60)
    assert (again, new, inside) == (first, False, first)
    assert first.quote == NILE[47:80]


@pytest.mark.parametrize(("start", "end"), [(9, 30), (10, 41), (20, 20), (30, 20)])
def test_a_span_outside_its_chunk_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="not inside"):
        Footnotes().cite(passage(NILE, 10, 40), start, end)
