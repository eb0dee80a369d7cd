"""Inner products with coded token vectors: those of the decoded ones, whatever the codec and the sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.token_codec import TRAINED, codec_for, codec_named
from indexing.token_codes import TokenCodes
from indexing.token_products import best_products, token_products
from tests.small_index import unit_vectors

ROUNDING = 2e-3


@settings(deadline=None, max_examples=40)
@given(n_tokens=st.integers(0, 40), n_vectors=st.integers(0, 40), dim=st.integers(1, 90))
def test_products_are_those_of_the_decoded_vectors(n_tokens: int, n_vectors: int, dim: int) -> None:
    random = np.random.default_rng(dim)
    codec = codec_for("any", dim)
    codes = codec.encode(unit_vectors(n_tokens, dim, random))
    vectors = unit_vectors(n_vectors, dim, random)
    products = token_products(vectors, codes, codec)
    assert products.shape == (n_tokens, n_vectors)
    np.testing.assert_allclose(products, codec.decode(codes) @ vectors.T, atol=ROUNDING)


def test_the_trained_codec_over_several_blocks() -> None:
    random = np.random.default_rng(3)
    codec = codec_named(TRAINED, 384)
    codes = random.integers(0, 256, (2100, codec.width), dtype=np.uint8)
    vectors = unit_vectors(17, 384, random)
    products = token_products(vectors, codes, codec)
    np.testing.assert_allclose(products, codec.decode(codes) @ vectors.T, atol=ROUNDING)


def test_the_longest_codes_do_not_overflow() -> None:
    """A vector in the direction of the longest code there is: its sums are the largest possible."""
    codec = codec_named(TRAINED, 384)
    longest = (codec.centroids**2).sum(axis=2).argmax(axis=1).astype(np.uint8)[None, :]
    products = token_products(codec.decode(longest), longest, codec)
    assert products == pytest.approx(1, abs=ROUNDING)


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(0, 5), max_size=8))
def test_the_best_of_each_chunk_is_that_of_a_loop(sizes: list[int]) -> None:
    random = np.random.default_rng(len(sizes))
    codec = codec_for("any", 12)
    chunks = [codec.encode(unit_vectors(size, 12, random)) for size in sizes]
    vectors = unit_vectors(3, 12, random)
    found = best_products(vectors, TokenCodes.of(chunks, codec.width), codec)
    assert found.shape == (len(sizes), 3)
    for row, codes in zip(found, chunks, strict=True):
        expected = (codec.decode(codes) @ vectors.T).max(axis=0) if len(codes) else np.zeros(3)
        np.testing.assert_allclose(row, expected, atol=ROUNDING)
