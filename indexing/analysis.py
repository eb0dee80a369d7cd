"""The analyzer: which terms a text consists of, for the index and for queries alike."""

from __future__ import annotations

from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

NAME = "english_1"
"""Stands in every index; an analyzer that gives other terms needs another name."""

MAX_TERM_BYTES = 64


def build_analyzer() -> TextAnalyzer:
    """Words in lower case, without diacritics and English stop words, cut to their Snowball stem.

    >>> build_analyzer().analyze("The Cafés of Zürich are opening")
    ['cafe', 'zurich', 'open']
    """
    return (
        TextAnalyzerBuilder(Tokenizer.simple())
        .filter(Filter.remove_long(MAX_TERM_BYTES))
        .filter(Filter.lowercase())
        .filter(Filter.ascii_fold())
        .filter(Filter.stopword("english"))
        .filter(Filter.stemmer("english"))
        .build()
    )
