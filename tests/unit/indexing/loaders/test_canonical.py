from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing.errors import LoadError
from indexing.loaders.canonical import TextBuilder, clean, loaded_text, table_text
from indexing.types import Block, Heading, Page
from tests.unit.indexing.loaders.invariants import assert_invariants

pieces = st.text(max_size=20)
anything = st.text(st.characters(codec=None), max_size=60)


@given(anything)
def test_clean_text_is_clean(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert not set(cleaned) & set("\0\r\v\f\x85\u2028\u200b\u202e\ufeff\U000e0041")
    cleaned.encode()


@given(st.text("ab\r\n\v\x85", max_size=20))
def test_lines_stay_lines(text: str) -> None:
    assert clean(text).split("\n") == text.replace("\r\n", "\n").translate(
        dict.fromkeys(b"\r\v\x85", "\n")
    ).split("\n")


spans = st.tuples(st.integers(-5, 40), st.integers(-5, 40))


@given(st.text("ab \n", min_size=1, max_size=30), st.lists(spans, max_size=8))
def test_any_spans_become_lawful(text: str, found: list[tuple[int, int]]) -> None:
    if not text.strip():
        return
    loaded = loaded_text(
        text,
        pages=[Page(page=number, start=start, end=end) for number, (start, end) in enumerate(found)],
        headings=[Heading(level=0, title="x", start=start, end=end) for start, end in found],
        blocks=[Block(kind="list", start=start, end=end) for start, end in found],
    )
    assert_invariants(loaded)


@given(st.lists(st.tuples(st.sampled_from("phlibg"), pieces), max_size=20))
def test_builder_marks_what_it_was_given(steps: list[tuple[str, str]]) -> None:
    builder = TextBuilder(10_000)
    headings = []
    for number, (kind, text) in enumerate(steps, start=1):
        match kind:
            case "p":
                builder.paragraph(text)
            case "h":
                builder.heading(text, 2)
                headings.append(" ".join(clean(text).split()))
            case "l":
                builder.line(text)
            case "i":
                builder.item(text)
            case "b":
                builder.code(text)
            case "g":
                builder.page(number)
    try:
        loaded = builder.finish()
    except LoadError as error:
        assert error.code == "empty_file"  # noqa: PT017 - only an empty document may fail
        return
    assert_invariants(loaded)
    assert [heading.title for heading in loaded.headings] == [title for title in headings if title]
    for heading in loaded.headings:
        assert loaded.text[heading.start : heading.end] == heading.title


def test_items_in_a_row_are_one_list() -> None:
    builder = TextBuilder(100)
    for text in ("- a", "- b"):
        builder.item(text)
    builder.paragraph("between")
    builder.item("- c")
    loaded = builder.finish()
    assert loaded.text == "- a\n- b\n\nbetween\n\n- c"
    assert [loaded.text[block.start : block.end] for block in loaded.blocks] == ["- a\n- b", "- c"]


def test_first_heading_is_the_title_where_none_is_given() -> None:
    builder = TextBuilder(100)
    builder.paragraph("before")
    builder.heading("The  heading", 3)
    assert builder.finish().title == "The heading"


def test_metadata_is_plain() -> None:
    loaded = loaded_text(
        "x", metadata={"a": " b\0 ", "nan": float("nan"), "none": "", "list": ["c\r"], "n": 3}
    )
    assert loaded.metadata == {"a": "b", "list": ["c"], "n": 3}


def test_text_over_the_limit_is_refused_while_it_grows() -> None:
    builder = TextBuilder(10)
    with pytest.raises(LoadError) as caught:
        builder.paragraph("x" * 11)
    assert caught.value.code == "too_large"


def test_unclean_text_is_refused() -> None:
    with pytest.raises(ValueError, match="not clean"):
        loaded_text("a\r\nb")


def test_table_text_keeps_inner_empty_cells() -> None:
    assert table_text([["a", "", "c"], ["", "b"]]) == "a |  | c\n | b"
