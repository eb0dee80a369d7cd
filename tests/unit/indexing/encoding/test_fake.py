"""The word encoder: explainable by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing.encoding.fake import WordEncoder, word_vector

WORD = st.sampled_from(["apple", "bread", "fire", "river", "stone", "water"])


def test_more_shared_words_give_a_higher_cosine() -> None:
    query, two, one, none = (
        WordEncoder().encode_queries(["red apple", "red apple pie", "red car", "blue sky"]).vectors
    )
    assert query @ two > query @ one > query @ none


@given(words=st.lists(WORD, min_size=1, max_size=6), order=st.randoms())
def test_the_order_and_case_of_words_do_not_matter(words: list[str], order) -> None:
    shuffled = words.copy()
    order.shuffle(shuffled)
    one, other = WordEncoder().encode_documents([" ".join(words), ", ".join(shuffled).upper()]).vectors
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_tokens_are_the_words() -> None:
    encoding = WordEncoder().encode_documents(["Red, red apple!"], with_tokens=True)
    assert encoding.tokens is not None
    (tokens,) = encoding.tokens
    assert tokens.offsets.tolist() == [[0, 3], [5, 8], [9, 14]]
    np.testing.assert_array_equal(tokens.vectors[0], tokens.vectors[1])
    np.testing.assert_array_equal(tokens.vectors[2], word_vector("apple", 64))


@pytest.mark.parametrize("dim", [1, 7, 64, 384, 1000])
def test_any_dimension_can_be_had(dim: int) -> None:
    vectors = WordEncoder(dim=dim).encode_documents(["stone", "", "water"]).vectors
    assert vectors.shape == (3, dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_dimension_and_window_are_part_of_the_fingerprint() -> None:
    encoders = [WordEncoder(), WordEncoder(dim=32), WordEncoder(max_tokens=16)]
    assert len({encoder.fingerprint for encoder in encoders}) == 3
    assert WordEncoder().fingerprint == encoders[0].fingerprint


def test_words_beyond_the_window_do_not_count() -> None:
    short = WordEncoder(max_tokens=4).encode_documents(["stone water", "stone water fire"]).vectors
    np.testing.assert_array_equal(short[0], short[1])
