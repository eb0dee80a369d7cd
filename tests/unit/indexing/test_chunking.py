"""Chunks: what must hold for any text as properties, what should happen at structure by example."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.chunking import Chunker, ChunkerSpec
from indexing.chunking.sections import common_path, fit_path
from indexing.types import Block, Heading, LoadedText, TextSpan, contextual_text


def count_words(texts: Sequence[str]) -> list[int]:
    """A tokenizer that cuts at white space: one token for each four characters of a word."""
    return [sum(-(-len(word) // 4) for word in text.split()) for text in texts]


def count_letters(texts: Sequence[str]) -> list[int]:
    """A tokenizer that knows no words and gives white space its own tokens, so counts are not additive."""
    return [-(-len(text) // 3) for text in texts]


COUNTERS = pytest.mark.parametrize("count", [count_words, count_letters], ids=["additive", "not-additive"])


def chunk_texts(loaded: LoadedText, spec: ChunkerSpec, title: str | None = None) -> list[str]:
    return [loaded.text[span.start : span.end] for span in Chunker(spec, count_words).split(loaded, title)]


def with_headings(text: str) -> LoadedText:
    """A text whose lines of the form `# Title` are its headings."""
    headings, at = [], 0
    for line in text.split("\n"):
        level = len(line) - len(line.lstrip("#"))
        if level:
            title = line.lstrip("#").strip()
            headings.append(Heading(level=level, title=title, start=at, end=at + len(line)))
        at += len(line) + 1
    return LoadedText(text=text, headings=tuple(headings))


def block_of(text: str, part: str, kind: str) -> Block:
    return Block(kind=kind, start=text.index(part), end=text.index(part) + len(part))


@st.composite
def loaded_texts(draw: st.DrawFn) -> LoadedText:
    words = ["word ", "Another one. ", "x" * 90, "漢字。", "a | b\n", "- item\n", "é", "1. ", "!"]
    piece = st.sampled_from([*words, "\n", "\n\n", "\t", " " * 40])
    text = draw(st.one_of(st.lists(piece, max_size=80).map("".join), st.text(max_size=200)))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    spans = [(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False) if text[a:b].strip()]
    headings, blocks = [], []
    for start, end in spans:
        if draw(st.booleans()):
            title = draw(st.sampled_from(["One", "Two two", "Heading " * 30, "one", " "]))
            headings.append(Heading(level=draw(st.integers(1, 4)), title=title, start=start, end=end))
        else:
            kind = draw(st.sampled_from(["table", "code", "list", "record"]))
            blocks.append(Block(kind=kind, start=start, end=end))
    if draw(st.booleans()) and text.strip():
        # A record around everything, headings inside it.
        blocks = [Block(kind="record", start=0, end=len(text))]
    return LoadedText(text=text, headings=tuple(headings), blocks=tuple(blocks))


SPECS = st.builds(
    ChunkerSpec,
    max_tokens=st.integers(16, 80),
    overlap_tokens=st.integers(0, 8),
    min_tokens=st.integers(0, 16),
)


@COUNTERS
@given(loaded=loaded_texts(), spec=SPECS, title=st.sampled_from([None, "A title", "Long title " * 20]))
@settings(max_examples=200, deadline=None)
def test_chunks_of_any_text(count, loaded: LoadedText, spec: ChunkerSpec, title: str | None) -> None:
    text = loaded.text
    spans = Chunker(spec, count).split(loaded, title)
    covered = start = 0
    for number, span in enumerate(spans):
        part = text[span.start : span.end]
        assert part
        assert part == part.strip()
        assert span.n_tokens == count([contextual_text(span.heading_path, part)])[0]
        assert span.n_tokens + 2 <= spec.max_tokens
        assert number == 0 or span.start > start
        assert span.end > covered
        assert not text[covered : span.start].strip()
        covered, start = span.end, span.start
    assert not text[covered:].strip()


@given(loaded=loaded_texts(), spec=SPECS)
@settings(max_examples=60, deadline=None)
def test_overlap_is_within_its_bound(loaded: LoadedText, spec: ChunkerSpec) -> None:
    spans = Chunker(spec, count_words).split(loaded)
    for before, span in pairwise(spans):
        repeated = loaded.text[span.start : before.end] if span.start < before.end else ""
        assert count_words([repeated])[0] <= spec.overlap_tokens


SMALL = ChunkerSpec(max_tokens=42, overlap_tokens=0, min_tokens=10)


def test_short_text_is_one_chunk_under_its_title() -> None:
    spans = Chunker(SMALL, count_words).split(LoadedText(text="  Run it. \n", title="Manual"))
    assert spans == [TextSpan(start=2, end=9, heading_path=("Manual",), n_tokens=4)]


def test_given_title_comes_before_the_loaded_one() -> None:
    spans = Chunker(SMALL, count_words).split(LoadedText(text="Run", title="Manual"), "Handbook")
    assert spans[0].heading_path == ("Handbook",)


def test_blank_text_has_no_chunks() -> None:
    assert Chunker(SMALL, count_words).split(LoadedText(text=" \n\n ")) == []


def test_sections_are_not_mixed() -> None:
    first, second = "alpha " * 8, "beta " * 8
    loaded = with_headings(f"# One\n{first}\n# Two\n{second}")
    assert chunk_texts(loaded, SMALL) == [f"# One\n{first.strip()}", f"# Two\n{second.strip()}"]


def test_path_is_title_and_headings_above_each_once() -> None:
    body = "word " * 20
    loaded = with_headings(f"# Guide\n{body}\n## Install\n{body}\n### Linux\n{body}\n## Use\n{body}")
    paths = [span.heading_path for span in Chunker(SMALL, count_words).split(loaded, "GUIDE")]
    assert paths == [
        ("GUIDE",), ("GUIDE", "Install"), ("GUIDE", "Install", "Linux"), ("GUIDE", "Use"),
    ]  # fmt: skip


def test_tiny_sections_share_a_chunk_under_their_common_heading() -> None:
    loaded = with_headings("# Keys\n## Up\nGo up.\n## Down\nGo down.\n## Left\nGo left.")
    spec = ChunkerSpec(max_tokens=42, overlap_tokens=0, min_tokens=12)
    spans = Chunker(spec, count_words).split(loaded, "Game")
    assert [span.heading_path for span in spans] == [("Game", "Keys")]


def test_bare_heading_stays_with_its_first_section() -> None:
    body = "word " * 60
    loaded = with_headings(f"# Part\n## Chapter\n{body}")
    chunks = chunk_texts(loaded, SMALL)
    assert chunks[0].startswith("# Part\n## Chapter\nword")
    assert len(chunks) > 1


def test_bare_heading_does_not_end_a_chunk() -> None:
    body = "word " * 20
    loaded = with_headings(f"# A\nshort\n# B\n## C\n{body}")
    assert chunk_texts(loaded, SMALL) == ["# A\nshort", f"# B\n## C\n{body.strip()}"]


def test_each_record_has_its_own_chunk() -> None:
    records = ["name: a\nsize: 1", "name: b\nsize: 2", "name: c\nsize: 3"]
    text = "\n\n".join(records)
    blocks = tuple(block_of(text, record, "record") for record in records)
    assert chunk_texts(LoadedText(text=text, blocks=blocks), SMALL) == records


def test_table_is_cut_between_rows() -> None:
    rows = [f"row {number} | value one two. Three | {number}" for number in range(12)]
    text = "\n".join(rows)
    loaded = LoadedText(text=text, blocks=(block_of(text, text, "table"),))
    chunks = chunk_texts(loaded, SMALL)
    assert [line for chunk in chunks for line in chunk.split("\n")] == rows
    assert len(chunks) > 1


def test_rows_are_not_repeated() -> None:
    text = "\n".join(f"row {number} | value | {number}" for number in range(30))
    loaded = LoadedText(text=text, blocks=(block_of(text, text, "table"),))
    spec = ChunkerSpec(max_tokens=42, overlap_tokens=12, min_tokens=0)
    spans = Chunker(spec, count_words).split(loaded)
    assert len(spans) > 3
    assert all(before.end < span.start for before, span in pairwise(spans))


def test_small_table_is_not_cut() -> None:
    table = "a | b\n1 | 2\n3 | 4\n5 | 6\n7 | 8"
    text = f"{'Some words stand here. ' * 4}\n\n{table}\n\n{'Others stand there. ' * 4}"
    loaded = LoadedText(text=text, blocks=(block_of(text, table, "table"),))
    assert any(table in chunk for chunk in chunk_texts(loaded, SMALL))


def test_paragraphs_are_kept_where_they_fit() -> None:
    paragraphs = ["One two three four. Five six seven eight. Nine ten." for _ in range(6)]
    for chunk in chunk_texts(LoadedText(text="\n\n".join(paragraphs)), SMALL):
        assert chunk.startswith("One")
        assert chunk.endswith("ten.")


def test_chunks_of_one_paragraph_are_of_like_size() -> None:
    text = "One two three four. " * 11
    spans = Chunker(SMALL, count_words).split(LoadedText(text=text))
    sizes = [span.n_tokens for span in spans]
    assert len(sizes) == 2
    assert max(sizes) - min(sizes) <= 6


def test_overlap_repeats_whole_sentences_inside_a_paragraph() -> None:
    sentences = [f"This is number {number}." for number in range(30)]
    spec = ChunkerSpec(max_tokens=42, overlap_tokens=6, min_tokens=10)
    chunks = chunk_texts(LoadedText(text=" ".join(sentences)), spec)
    for before, chunk in pairwise(chunks):
        last = before[before.rindex("This") :]
        assert chunk.startswith(last)


def test_overlap_does_not_cross_paragraphs() -> None:
    paragraph = "One two three four. " * 6
    spec = ChunkerSpec(max_tokens=42, overlap_tokens=10, min_tokens=0)
    text = f"{paragraph}\n\n{paragraph}"
    assert chunk_texts(LoadedText(text=text), spec) == [paragraph.strip()] * 2


def test_giant_word_is_cut_by_characters() -> None:
    chunks = chunk_texts(LoadedText(text="x" * 5000), SMALL)
    assert "".join(chunks) == "x" * 5000
    assert max(map(len, chunks)) <= 160


def test_unknown_words_do_not_make_giant_chunks() -> None:
    """Some tokenizers give one token for any long word; a chunk of them would be a file."""

    def one_each(texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    spans = Chunker(SMALL, one_each).split(LoadedText(text=" ".join(["y" * 3000] * 20)))
    assert max(span.end - span.start for span in spans) < 1000


def test_much_white_space_does_not_make_giant_chunks() -> None:
    text = f"one{' ' * 100_000}two"
    assert chunk_texts(LoadedText(text=text), SMALL) == ["one", "two"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("Title", "Heading"), ("Title", "Heading")),
        (("Title", "Part one of it", "Chapter two", "Last"), ("Title", "Chapter two", "Last")),
        (("word " * 10,), ("word word word word word word word…",)),
        ((), ()),
    ],
)
def test_long_path_is_shortened(path: tuple[str, ...], expected: tuple[str, ...]) -> None:
    fitted, n_tokens = fit_path(tuple(name.strip() for name in path), 8, lambda text: len(text.split()))
    assert fitted == expected
    assert n_tokens <= 8


def test_common_path() -> None:
    assert common_path([("a", "b"), ("a", "c")]) == ("a",)
    assert common_path([("a", "b"), ("c",)]) == ()


def test_fingerprint_changes_with_every_setting() -> None:
    specs = [
        ChunkerSpec(),
        ChunkerSpec(max_tokens=128),
        ChunkerSpec(overlap_tokens=7),
        ChunkerSpec(min_tokens=7),
    ]
    prints = {spec.fingerprint for spec in specs}
    assert len(prints) == len(specs)
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in prints)
    assert ChunkerSpec().fingerprint == ChunkerSpec().fingerprint


@pytest.mark.parametrize("bad", [{"max_tokens": 8}, {"overlap_tokens": 200}, {"min_tokens": -1}], ids=str)
def test_spec_refuses(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ChunkerSpec(**bad)


@pytest.mark.parametrize("count", [count_words, count_letters], ids=["additive", "not-additive"])
@pytest.mark.parametrize(
    "unit", ["word ", "A sentence. ", "x", "\n", "# T\n", "a | b\n", "para\n\n", "- i\n", ". (", "\t"]
)
def test_time_grows_with_the_text_alone(unit: str, count) -> None:
    loaded = with_headings((unit * 60_000)[:60_000])
    began = time.process_time()
    Chunker(ChunkerSpec(), count).split(loaded)
    assert time.process_time() - began < 5


def test_many_blocks_take_linear_time() -> None:
    text = "ab cd\n" * 20_000
    kinds = ("table", "code", "list", "record")
    blocks = tuple(Block(kind=kinds[n % 4], start=6 * n, end=6 * n + 5) for n in range(20_000))
    began = time.process_time()
    Chunker(ChunkerSpec(), count_words).split(LoadedText(text=text, blocks=blocks))
    assert time.process_time() - began < 8
