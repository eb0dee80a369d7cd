"""The analyzer: which terms a text consists of, for the index and for queries alike."""

from __future__ import annotations

from tantivy import Filter, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

NAME = "english_1"
"""Stands in every index; an analyzer that gives other terms needs another name."""

MAX_TERM_BYTES = 64

# Separates where the tokenizer does for certain, at ASCII characters that are neither letter nor digit. The
# bytes of other characters stay, and with them words that only the analyzer can tell apart.
_SEPARATED = bytes(
    byte | 32 if chr(byte).isalpha() and byte < 128 else byte if byte >= 128 or chr(byte).isdigit() else 32
    for byte in range(256)
)


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


def runs(text: str) -> list[bytes]:
    """The stretches between ASCII separators, with ASCII letters in lower case, encoded.

    A term of the text comes from one run: the terms of its runs, in order, are the terms of the text. So a
    run that comes often needs to be analyzed once. Raises UnicodeEncodeError for a lone surrogate.

    >>> runs("The Cafe's 2nd—and last—day")
    [b'the', b'cafe', b's', b'2nd\\xe2\\x80\\x94and', b'last\\xe2\\x80\\x94day']
    """
    return text.encode().translate(_SEPARATED).split()
