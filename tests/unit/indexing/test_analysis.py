"""The terms of a text are those of its runs, whatever characters it has."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing.analysis import build_analyzer, runs

ANALYZER = build_analyzer()
PIECES = [
    "Café",
    "don’t",
    "end—begin",
    "Straße",
    "ΣΑΣ",
    "İstanbul",
    "x" * 65,
    "é" * 33,
    "...",
    "一二三",
    "a\u0301",
]


def terms_of_runs(text: str) -> list[str]:
    return [term for run in runs(text) for term in ANALYZER.analyze(run.decode())]


@given(st.text())
def test_any_text(text: str) -> None:
    assert terms_of_runs(text) == ANALYZER.analyze(text)


@given(
    st.lists(
        st.one_of(st.sampled_from(PIECES), st.sampled_from(" -_\t\n\x00\x7f'İΣ²½Ⓐ५"), st.text(max_size=3))
    )
)
def test_words_in_any_company(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert terms_of_runs(text) == ANALYZER.analyze(text)


def test_characters_of_all_scripts_inside_a_word() -> None:
    codes = [*range(0x3000), *range(0x3000, sys.maxunicode + 1, 17)]
    text = " ".join(f"Ab{chr(code)}Cd" for code in codes if not 0xD800 <= code < 0xE000)
    assert terms_of_runs(text) == ANALYZER.analyze(text)


def test_runs_end_at_ascii_only_and_are_in_lower_case() -> None:
    assert runs("One-TWO_3 (vier)\x7fÉté!") == [b"one", b"two", b"3", b"vier", "Été".encode()]
    assert runs("") == runs(" \n.,") == []


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        runs("\ud800")
