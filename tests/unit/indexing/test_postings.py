"""Term tables and postings: the same entries, one row after another and one term after another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.analysis import build_analyzer
from indexing.bm25 import coded_lengths
from indexing.postings import MAX_ROWS, Postings
from indexing.terms import TermTable, TermTableBuilder, term_key
from tests import oracles

ANALYZER = build_analyzer()
WORDS = ["river", "Rivers", "the", "stone", "don’t", "café—bar", "", "salt,salt", "é" * 40]
TEXTS = st.lists(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=4)), max_size=12).map(" ".join))


def table_of(texts: list[str]) -> TermTable:
    builder = TermTableBuilder()
    for text in texts:
        builder.add(text)
    assert len(builder) == len(texts)
    return builder.build()


def forward_entries(table: TermTable) -> list[dict[int, int]]:
    """Per row, the count of every term by its key."""
    return [
        dict(
            zip(
                table.vocabulary[table.ordinals[start:stop]].tolist(),
                table.counts[start:stop].tolist(),
                strict=True,
            )
        )
        for start, stop in zip(table.starts[:-1], table.starts[1:], strict=True)
    ]


@given(TEXTS)
def test_a_table_counts_the_terms_of_every_text(texts: list[str]) -> None:
    table = table_of(texts)
    counted = [Counter(ANALYZER.analyze(text)) for text in texts]

    assert forward_entries(table) == [
        {term_key(term): count for term, count in counts.items()} for counts in counted
    ]
    assert table.lengths.tolist() == [counts.total() for counts in counted]
    assert table.vocabulary.tolist() == sorted({term_key(term) for counts in counted for term in counts})
    for start, stop in zip(table.starts[:-1], table.starts[1:], strict=True):
        assert (np.diff(table.ordinals[start:stop].astype(int)) > 0).all()


@settings(deadline=None)
@given(TEXTS)
def test_postings_are_the_table_turned_round(texts: list[str]) -> None:
    table = table_of(texts)
    postings = Postings.build(table)

    expected: list[list[tuple[int, int, int]]] = [[] for _ in table.vocabulary]
    for row, entries in enumerate(forward_entries(table)):
        for key, count in entries.items():
            place = int(np.searchsorted(table.vocabulary, np.uint64(key)))
            expected[place].append((row, count, oracles.coded_length(int(table.lengths[row]))))
    for place, (start, stop) in enumerate(zip(postings.starts[:-1], postings.starts[1:], strict=True)):
        impacts = postings.impacts[start:stop]
        found = zip(
            postings.rows[start:stop].tolist(),
            (impacts >> 8).tolist(),
            coded_lengths()[impacts & 255].tolist(),
            strict=True,
        )
        assert list(found) == expected[place]


def test_a_count_stays_at_255_in_both() -> None:
    table = table_of(["salt " * 254, "salt " * 255, "salt " * 256, "salt " * 70_000])
    assert table.counts.tolist() == [254, 255, 255, 255]
    assert table.lengths.tolist() == [254, 255, 256, 70_000]
    assert (Postings.build(table).impacts >> 8).tolist() == [254, 255, 255, 255]


def test_saved_then_loaded_is_the_same_and_the_bytes_too(tmp_path: Path) -> None:
    texts = ["river stone river", "", "stone"]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Postings.build(table_of(texts)).save(tmp_path / name)
    (file,) = (tmp_path / "a").iterdir()
    assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    loaded, built = Postings.load(tmp_path / "a"), Postings.build(table_of(texts))
    for column in ("starts", "rows", "impacts"):
        np.testing.assert_array_equal(getattr(loaded, column), getattr(built, column))


def test_rows_beyond_the_blocks_of_the_build() -> None:
    texts = ["salt" if number % 3 else "copper salt salt" for number in range(70_000)]
    table = table_of(texts)
    postings = Postings.build(table)
    place = int(np.searchsorted(table.vocabulary, np.uint64(term_key("copper"))))
    rows = postings.rows[postings.starts[place] : postings.starts[place + 1]]
    assert rows.tolist() == list(range(0, 70_000, 3))


def test_too_many_rows_are_refused() -> None:
    none = table_of([])
    rows = np.broadcast_to(np.uint32(0), (MAX_ROWS + 1,))
    table = TermTable(
        vocabulary=none.vocabulary,
        starts=none.starts,
        ordinals=none.ordinals,
        counts=none.counts,
        lengths=rows,
    )
    with pytest.raises(ValueError, match="16777217 rows"):
        Postings.build(table)
