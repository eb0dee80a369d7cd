"""A text in parts reads like the string it stands for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing.chunking import Chunker, ChunkerSpec
from indexing.chunking import units as chunking_units
from indexing.encoding.fake import WordEncoder
from indexing.long_text import PART_CHARS, LongText, parts_of, text_of_parts, whole_characters
from indexing.types import LoadedText

PARTS = st.lists(st.text(alphabet="ab é☕😀\n.", max_size=6), max_size=6)
SPEC = ChunkerSpec(max_tokens=20, overlap_tokens=4, min_tokens=4)


@given(PARTS, st.integers(-3, 40), st.integers(-3, 40))
def test_slices_are_those_of_the_string(parts: list[str], start: int, stop: int) -> None:
    text, expected = LongText(parts), "".join(parts)
    assert len(text) == len(expected)
    assert text[start:stop] == expected[start:stop]
    assert text[:stop] + text[stop:] == expected[:stop] + expected[stop:]
    assert "".join(text.parts()) == expected
    assert b"".join(text.encoded()).decode() == expected
    assert text == LongText(part.encode() for part in parts)


def test_it_is_read_forwards() -> None:
    with pytest.raises(ValueError, match="forwards"):
        LongText(["abc"])[::2]


def test_it_takes_a_byte_for_most_characters() -> None:
    text = "x" * 1000 + "😀"
    assert LongText([text]).n_bytes == 1004


@given(st.text(alphabet="a é☕😀", max_size=8), st.integers(0, 30))
def test_bytes_are_parted_between_characters(text: str, n_bytes: int) -> None:
    data = text.encode()[:n_bytes]
    whole = data[: whole_characters(data)]
    assert whole == data.decode(errors="ignore").encode()
    assert len(data) - len(whole) < 4


def test_a_text_is_a_string_where_it_has_one_part() -> None:
    assert text_of_parts(["one"]) == "one"
    assert text_of_parts([]) == ""
    assert text_of_parts(iter(["one", "two"])) == LongText(["one", "two"])
    long = "ab" * PART_CHARS
    assert [len(part) for part in parts_of(long)] == [PART_CHARS, PART_CHARS]
    assert "".join(parts_of(LongText(["one", "two"]))) == "onetwo"


@given(st.text(alphabet="ab. é😀\n", max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_it_is_cut_like_the_string(text: str, borders: list[int]) -> None:
    chunker = Chunker(SPEC, WordEncoder().count_tokens)
    edges = sorted({0, len(text), *(min(border, len(text)) for border in borders)})
    long = LongText(text[start:end] for start, end in pairwise(edges))
    assert chunker.split(LoadedText(text=long)) == chunker.split(LoadedText(text=text))


@pytest.mark.parametrize("gap", ["\n\n", "\n", " ", ""], ids=["paragraphs", "lines", "words", "one word"])
def test_a_long_section_is_cut_in_stretches_and_whole(gap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stretch is longer than allowed, whatever the text offers, and every character lies in a chunk."""
    monkeypatch.setattr(chunking_units, "STRETCH_CHARS", 100)
    monkeypatch.setattr(chunking_units, "LONGEST_STRETCH", 400)
    seen: list[int] = []
    split = chunking_units.split_sentences

    def watched(piece: str, start: int) -> list[tuple[int, int]]:
        seen.append(len(piece))
        return split(piece, start)

    monkeypatch.setattr(chunking_units, "split_sentences", watched)
    text = gap.join(f"Sentence {number} says this." for number in range(100))
    spans = Chunker(SPEC, WordEncoder().count_tokens).split(LoadedText(text=text))
    assert max(seen) <= 400
    assert len(seen) > 5
    covered = {at for span in spans for at in range(span.start, span.end)}
    assert all(at in covered for at, character in enumerate(text) if not character.isspace())


def test_what_progress_raises_ends_the_cutting() -> None:
    class Enough(Exception):
        pass

    seen: list[tuple[int, int]] = []

    def go_on(done: int, total: int) -> None:
        seen.append((done, total))
        if done > total / 2:
            raise Enough

    text = "One sentence of words. " * 20_000
    with pytest.raises(Enough):
        Chunker(SPEC, WordEncoder().count_tokens).split(LoadedText(text=text), None, go_on)
    assert len(seen) > 1
    assert seen[-1][0] < len(text)
