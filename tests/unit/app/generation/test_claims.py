"""Sentences of a streamed answer, and the markers that belong to each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.generation.citations import Marker, MarkerReader
from app.generation.claims import ClaimReader, SentenceEnded, Written

Claims = list[tuple[str, tuple[int, ...]]]


def read(text: str, size: int) -> tuple[str, Claims]:
    """All text written, and each sentence with its numbers; the text comes `size` characters at a time."""
    markers, claims = MarkerReader(), ClaimReader()
    written, found = "", list[tuple[str, tuple[int, ...]]]()

    def take(readings: list[Written | SentenceEnded]) -> None:
        nonlocal written
        for reading in readings:
            if isinstance(reading, Written):
                written += reading.text
            else:
                found.append((written[len(written) - reading.length :], reading.numbers))

    def feed(pieces: list[str | Marker]) -> None:
        for piece in pieces:
            if isinstance(piece, Marker):
                claims.marker(piece.numbers)
            else:
                take(list(claims.text(piece)))

    for at in range(0, len(text), size):
        feed(list(markers.feed(text[at : at + size])))
    feed(list(markers.close()))
    take(list(claims.close()))
    return written, found


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("It rained [1]. It snowed. [2]", [("It rained.", (1,)), ("It snowed.", (2,))]),
        ("It rained.[1] It snowed.[2][3]", [("It rained.", (1,)), ("It snowed.", (2, 3))]),
        ("It [1] rained [2], a lot [1].", [("It rained, a lot.", (1, 2))]),
        ("Dr. Lee left [1]. She fell [2].", [("Dr. Lee left.", (1,)), ("She fell.", (2,))]),
        ("Nobody knows. All is well [1].", [("Nobody knows.", ()), ("All is well.", (1,))]),
        ("- Cats purr [1]\n- Dogs bark [2]", [("Cats purr", (1,)), ("Dogs bark", (2,))]),
        ("1. Cats purr. [1]\n2. Dogs bark. [2]", [("Cats purr.", (1,)), ("Dogs bark.", (2,))]),
        ("Cats purr.\n[1]\n\nDogs bark.", [("Cats purr.", (1,)), ("Dogs bark.", ())]),
        ("雨です[1]。雪です。[2]", [("雨です。", (1,)), ("雪です。", (2,))]),
        ("[1] Cats purr.", [("Cats purr.", (1,))]),
        ("No end [4]", [("No end", (4,))]),
        ("...\n---", []),
        ("", []),
    ],
)
def test_each_marker_goes_to_its_sentence(text: str, claims: Claims, size: int) -> None:
    assert read(text, size)[1] == claims


def test_text_comes_at_once_but_for_what_may_follow_a_marker() -> None:
    claims = ClaimReader()
    sent = [
        "".join(reading.text for reading in claims.text(piece) if isinstance(reading, Written))
        for piece in ("The Nile", " is long. ", "It ", "floods")
    ]
    assert sent == ["The Nile", " is long.", " It", " floods"]


@given(
    st.lists(
        st.sampled_from(["Cats", "Dr.", "purr.", "\n", " ", "[1]", "[2]", "!", "- ", "3.", "日。", "e.g."]),
        max_size=25,
    ).map(" ".join),
    st.integers(1, 9),
)
def test_the_cutting_of_the_stream_changes_nothing(text: str, size: int) -> None:
    assert read(text, size) == read(text, 10_000)


@given(st.lists(st.sampled_from(["Cats", "purr.", "\n", "[1]", "[2]", "x [3]"]), max_size=25).map(" ".join))
def test_no_word_is_lost_and_no_marker_is_left(text: str) -> None:
    written, claims = read(text, 3)
    plain = text.replace("[1]", "").replace("[2]", "").replace("[3]", "")
    assert "".join(written.split()) == "".join(plain.split())
    assert all(claim and claim in written for claim, _ in claims)
