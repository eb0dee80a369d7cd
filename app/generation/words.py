"""The words of a text that carry its meaning, as stems that can be compared."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from tantivy import TextAnalyzer

from indexing.analysis import build_analyzer

# Words that ask, and words that fill a question, beside the analyzer's own stop words.
_QUESTION_WORDS = """
what which who whom whose when where why how many much did do does doing done has have had can could would
should shall may might must been being were am me my i you your we our us he she his her him its from than
also any some about please tell explain describe
"""
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


@lru_cache(maxsize=1)
def _analyzer() -> TextAnalyzer:
    return build_analyzer()


@lru_cache(maxsize=1)
def _empty_stems() -> frozenset[str]:
    return frozenset(_analyzer().analyze(_QUESTION_WORDS))


def stems(text: str) -> list[str]:
    """The stems of the words that carry meaning, in order, with repetitions.

    >>> stems("Who were the Norman dukes?")
    ['norman', 'duke']
    """
    return [stem for stem in _analyzer().analyze(plain_figures(text)) if stem not in _empty_stems()]


def plain_figures(text: str) -> str:
    """The text with its figures written without separators of thousands.

    >>> plain_figures("1,234,567 of 12,5")
    '1234567 of 12,5'
    """
    return _THOUSANDS.sub("", text)


def inverse_frequencies(word_sets: Sequence[Iterable[str]]) -> dict[str, float]:
    """How rare each word is among the texts: log(1 + n / number of texts that have it).

    >>> frequencies = inverse_frequencies([{"a", "b"}, {"a"}])
    >>> round(frequencies["a"], 3), round(frequencies["b"], 3)
    (0.693, 1.099)
    """
    counts = Counter(word for words in word_sets for word in set(words))
    return {word: math.log(1 + len(word_sets) / count) for word, count in counts.items()}
