"""Pooling of token vectors: how many are left, of what, and in which order."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.encoding.fake import WordEncoder, word_vector
from indexing.token_pooling import pooled
from indexing.types import Floats, TokenVectors
from tests.small_index import unit_vectors


def tokens_of(text: str) -> TokenVectors:
    (tokens,) = WordEncoder(dim=64).encode_documents([text], with_tokens=True).tokens or ()
    return tokens


def naive_round(sums: list[Floats], sizes: list[int], n_kept: int) -> tuple[list[Floats], list[int]]:
    """Every pair that is better than its neighbours, the best first, by loops."""

    def cost(left: int) -> float:
        one, other = sums[left], sums[left + 1]
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        weight = sizes[left] * sizes[left + 1] / (sizes[left] + sizes[left + 1])
        return float(weight * (1 - cosine))

    costs = {left: cost(left) for left in range(len(sums) - 1)}
    best = [
        left
        for left, own in costs.items()
        if own < costs.get(left - 1, np.inf) and own <= costs.get(left + 1, np.inf)
    ]
    for left in sorted(sorted(best, key=lambda left: costs[left])[: len(sums) - n_kept], reverse=True):
        sums[left : left + 2] = [sums[left] + sums[left + 1]]
        sizes[left : left + 2] = [sizes[left] + sizes[left + 1]]
    return sums, sizes


@settings(deadline=None, max_examples=50)
@given(n_tokens=st.integers(1, 60), per_root=st.floats(1, 5), seed=st.integers(0, 99))
def test_it_is_what_loops_give(n_tokens: int, per_root: float, seed: int) -> None:
    vectors = unit_vectors(n_tokens, 7, np.random.default_rng(seed))
    offsets = np.array([[2 * place, 2 * place + 1] for place in range(n_tokens)], np.int32)
    found = pooled("a " * n_tokens, TokenVectors(vectors=vectors, offsets=offsets), per_root)
    sums, sizes = list(vectors), [1] * n_tokens
    n_kept = ceil(per_root * sqrt(n_tokens))
    while len(sums) > n_kept:
        sums, sizes = naive_round(sums, sizes, n_kept)
    assert len(found) == min(n_tokens, n_kept)
    expected = np.array([total / np.linalg.norm(total) for total in sums])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_words_that_are_repeated_side_by_side_become_one() -> None:
    found = pooled("red red blue blue", tokens_of("red red blue blue"), per_root=1)
    np.testing.assert_allclose(found, [word_vector("red", 64), word_vector("blue", 64)], atol=1e-5)


def test_punctuation_is_left_out() -> None:
    vectors = unit_vectors(4, 8, np.random.default_rng(0))
    tokens = TokenVectors(vectors=vectors, offsets=np.array([[0, 1], [1, 2], [2, 3], [3, 4]], np.int32))
    np.testing.assert_allclose(pooled("a.b!", tokens), vectors[[0, 2]], atol=1e-6)
    np.testing.assert_allclose(pooled("?.-!", tokens), vectors, atol=1e-6)


def test_tokens_that_stand_for_no_characters_stay() -> None:
    vectors = unit_vectors(3, 8, np.random.default_rng(0))
    tokens = TokenVectors(vectors=vectors, offsets=np.array([[0, 0], [0, 1], [1, 2]], np.int32))
    np.testing.assert_allclose(pooled("a.", tokens), vectors[:2], atol=1e-6)


def test_a_short_text_loses_nothing() -> None:
    text = " ".join(f"w{number}" for number in range(38))
    np.testing.assert_allclose(pooled(text, tokens_of(text)), tokens_of(text).vectors, atol=1e-6)


def test_no_tokens_give_no_vectors() -> None:
    assert pooled("", tokens_of("")).shape == (0, 64)


def test_what_is_no_number_holds_up_nothing() -> None:
    vectors = np.full((100, 8), np.nan, np.float32)
    offsets = np.array([[place, place + 1] for place in range(100)], np.int32)
    assert len(pooled("a" * 100, TokenVectors(vectors=vectors, offsets=offsets))) == 100
