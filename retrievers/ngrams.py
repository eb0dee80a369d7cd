"""The n-grams of a query, what each is worth, and where they stand in a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from indexing.words import Word, forms_of, words_of

MAX_WORDS = 5
"""The longest n-gram of free text; a quoted phrase may be longer."""

ALPHA = 2.0
BETA = 0.8
"""Exponent and damping of SEAL, as its authors set them."""

TermsOf = Callable[[str], Sequence[str]]
Mask = NDArray[np.bool_]
Doubles = NDArray[np.float64]

_QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”|„([^“”]*)[“”]|«([^»]*)»')


@dataclass(frozen=True, slots=True, kw_only=True)
class Ngram:
    """Words in a row, in lower case. A `required` one must stand in a hit: it was quoted.

    `terms` are the index's, without repeats; none where all its words are stop words. One word that was not
    quoted stands wherever its terms do, in any form of the word.
    """

    words: tuple[str, ...]
    terms: tuple[str, ...]
    required: bool = False

    @property
    def exact(self) -> bool:
        """Whether only the text can tell that it stands there."""
        return self.required or len(self.words) > 1

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Characters `[start, end)` of a text in which an n-gram stands."""

    ngram: Ngram
    start: int
    end: int


def ngrams_of(query: str, terms_of: TermsOf) -> list[Ngram]:
    """The distinct n-grams of a query, those in quotation marks first.

    A quoted phrase gives itself and its own n-grams. What is free gives n-grams of up to five words that
    begin and end with a word that is indexed, and none that reaches across a quotation mark.

    >>> found = ngrams_of('who said "hear, hear" twice', lambda text: [w for w in text.split() if w != "who"])
    >>> [(ngram.text, ngram.required) for ngram in found]
    [('hear hear', True), ('hear', False), ('said', False), ('twice', False)]
    """
    found: dict[tuple[str, ...], Ngram] = {}
    known: dict[str, tuple[str, ...]] = {}

    def ngram(words: tuple[str, ...], required: bool = False) -> Ngram:
        terms = [term for word in words for term in known[word]]
        return Ngram(words=words, terms=tuple(dict.fromkeys(terms)), required=required)

    stretches = list(_stretches(query))
    for words, _ in stretches:
        for word in words:
            known.setdefault(word, tuple(terms_of(word)))
    for words, quoted in stretches:
        if quoted and words:
            found.setdefault(words, ngram(words, required=True))
    for words, _ in sorted(stretches, key=lambda stretch: not stretch[1]):
        for start in range(len(words)):
            for end in range(start + 1, min(start + MAX_WORDS, len(words)) + 1):
                if known[words[start]] and known[words[end - 1]]:
                    found.setdefault(words[start:end], ngram(words[start:end]))
    return list(found.values())


def _stretches(query: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The words of each stretch of the query, and whether it is quoted."""
    end = 0
    for quoted in _QUOTED.finditer(query):
        yield _forms(query[end : quoted.start()]), False
        yield _forms(next(part for part in quoted.groups() if part is not None)), True
        end = quoted.end()
    yield _forms(query[end:]), False


def _forms(text: str) -> tuple[str, ...]:
    return tuple(forms_of(text))


def weight(n_with: int, n_chunks: int) -> float:
    """What an n-gram is worth that `n_with` of the chunks may have.

    SEAL's key score max(0, log(P(n|q)(1 − P(n)) / (P(n)(1 − P(n|q)))))^α, Bevilacqua et al. 2022,
    https://arxiv.org/abs/2204.10628, section 3. There P(n|q) is a language model's; here every n-gram of the
    query is as likely as not, which leaves the log odds of P(n).

    >>> weight(50, 100), round(weight(1, 100), 2)
    (0.0, 17.6)
    """
    share = (n_with + 0.5) / (n_chunks + 1)
    return float(max(0.0, log((1 - share) / share)) ** ALPHA)


def covered_score(ngrams: Sequence[Ngram], weights: Sequence[float]) -> float:
    """Σ w(n) (1 − β + β |words of n not in those before| / |words of n|): repeats are damped, not left out.

    The coverage weight of SEAL, section 3; the n-grams come by falling weight.

    >>> both = [Ngram(words=("hot", "tea"), terms=()), Ngram(words=("tea",), terms=())]
    >>> round(covered_score(both, [5.0, 3.0]), 6)
    5.6
    """
    covered: set[str] = set()
    total = 0.0
    for ngram, value in zip(ngrams, weights, strict=True):
        words = set(ngram.words)
        total += value * (1 - BETA + BETA * len(words - covered) / len(words))
        covered |= words
    return total


def score_bounds(ngrams: Sequence[Ngram], weights: Sequence[float], possible: Mask) -> Doubles:
    """For each row of `possible` (n_rows, n_ngrams): no text that has some of its n-grams scores higher.

    (1 − β) Σ w(n) + β Σ over the words of the largest w(n) / |words of n|: each word is new but once.

    >>> pair = [Ngram(words=("hot", "tea"), terms=()), Ngram(words=("tea",), terms=())]
    >>> score_bounds(pair, [5.0, 3.0], np.array([[True, True], [False, True]])).round(6).tolist()
    [6.0, 3.0]
    """
    values = np.asarray(weights, dtype=np.float64)
    fresh = values / np.array([len(set(ngram.words)) for ngram in ngrams])
    bounds = (1 - BETA) * (possible @ values)
    numbers: dict[str, list[int]] = {}
    for number, ngram in enumerate(ngrams):
        for word in set(ngram.words):
            numbers.setdefault(word, []).append(number)
    for of_word in numbers.values():
        bounds += BETA * (possible[:, of_word] * fresh[of_word]).max(axis=1)
    return np.asarray(bounds, dtype=np.float64)


def find(ngrams: Sequence[Ngram], text: str, terms_of: TermsOf) -> list[Match]:
    """Every place of every n-gram in a text, in the order of the text, the longest first."""
    words = words_of(text)
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word.form, []).append(place)
    matches = [
        _match(ngram, words[place : place + len(ngram.words)])
        for ngram in ngrams
        for place in (_places(ngram, words, places) if ngram.exact else _of_terms(ngram, places, terms_of))
    ]
    return sorted(matches, key=lambda match: (match.start, -match.end))


def _places(ngram: Ngram, words: Sequence[Word], places: dict[str, list[int]]) -> Iterator[int]:
    size = len(ngram.words)
    for place in places.get(ngram.words[0], ()):
        if tuple(word.form for word in words[place : place + size]) == ngram.words:
            yield place


def _of_terms(ngram: Ngram, places: dict[str, list[int]], terms_of: TermsOf) -> Iterator[int]:
    for form, of_form in places.items():
        if tuple(dict.fromkeys(terms_of(form))) == ngram.terms:
            yield from of_form


def _match(ngram: Ngram, words: Sequence[Word]) -> Match:
    return Match(ngram=ngram, start=words[0].start, end=words[-1].end)
