"""Which sentences of a text say most of it: centrality by LexRank, diversity by MMR."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Doubles = NDArray[np.float64]

DAMPING = 0.85
SIMILAR = 0.1
"""Erkan and Radev 2004: two sentences are neighbours where their cosine is above it."""
DIVERSITY = 0.7
_WORD = re.compile(r"[^\W_]+")
_ROUNDS = 50


def sentence_vectors(sentences: Sequence[str]) -> csr_array:
    """Rows of length 1 (or 0) of tf · idf, shape (n_sentences, n_words); the idf counts sentences.

    >>> rows = sentence_vectors(["red sun", "red moon", "blue"])
    >>> (rows @ rows.T).toarray().round(3).tolist()
    [[1.0, 0.366, 0.0], [0.366, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    from scipy.sparse import csr_array  # where it is needed: importing it takes half a second

    places: dict[str, int] = {}
    rows, columns = list[int](), list[int]()
    for row, sentence in enumerate(sentences):
        for word in _WORD.findall(sentence.lower()):
            rows.append(row)
            columns.append(places.setdefault(word, len(places)))
    shape = (len(sentences), len(places))
    counts = csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    counts.sum_duplicates()
    n_with = np.bincount(counts.indices, minlength=shape[1])
    weights = counts.data * (np.log((1 + shape[0]) / (1 + n_with)) + 1)[counts.indices]
    weighted = csr_array((weights, counts.indices, counts.indptr), shape=shape)
    lengths = np.sqrt(weighted.multiply(weighted).sum(axis=1))
    lengths[lengths == 0] = 1.0
    weighted.data /= np.repeat(lengths, np.diff(weighted.indptr))
    return weighted


def centrality(cosines: Doubles) -> Doubles:
    """Continuous LexRank: the stationary distribution of a walk over similar sentences, shape (n,).

    Erkan and Radev 2004, https://arxiv.org/abs/1109.2128, equation 10, with cosines below `SIMILAR` left out.
    """
    n = len(cosines)
    weights = np.where(cosines >= SIMILAR, cosines, 0.0)
    sums = weights.sum(axis=1, keepdims=True)
    walk = np.divide(weights, sums, out=np.full_like(weights, 1 / n), where=sums > 0)
    rank = np.full(n, 1 / n)
    for _ in range(_ROUNDS):
        rank = (1 - DAMPING) / n + DAMPING * (rank @ walk)
    return rank


def chosen(cosines: Doubles, sizes: Sequence[int], budget: int) -> list[int]:
    """Places of sentences that are central and unlike each other, in the order of the text.

    Maximal marginal relevance (Carbonell and Goldstein 1998): each next one has the highest
    `DIVERSITY · centrality − (1 − DIVERSITY) · cosine to the nearest chosen`, centrality scaled to at most 1.
    One that does not fit the budget is passed over; where none fits, the most central one is taken.
    """
    relevance = centrality(cosines)
    relevance = relevance / relevance.max()
    nearest = np.zeros(len(relevance))
    left, taken = budget, list[int]()
    open_places = np.ones(len(relevance), dtype=np.bool_)
    while open_places.any():
        gains = np.where(open_places, DIVERSITY * relevance - (1 - DIVERSITY) * nearest, -np.inf)
        place = int(gains.argmax())
        open_places[place] = False
        if sizes[place] <= left:
            left -= sizes[place]
            taken.append(place)
            nearest = np.maximum(nearest, cosines[place])
    return sorted(taken) or [int(relevance.argmax())]
