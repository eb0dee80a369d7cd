"""Codecs of token vectors: what they lose, for any number of tokens and any dimension."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.encoding.minilm_pack import MODEL_NAME
from indexing.errors import EncoderError
from indexing.token_codec import ROTATED, TRAINED, TRAINED_FOR, ProductCodec, codec_for, codec_named
from indexing.types import Floats
from tests.small_index import unit_vectors


def made_up_product_codec(dim: int, n_parts: int) -> tuple[ProductCodec, Floats, Floats]:
    random = np.random.default_rng(n_parts)
    rotation = np.linalg.qr(random.standard_normal((dim, dim)))[0].astype(np.float32)
    centroids = random.standard_normal((n_parts, 256, dim // n_parts), dtype=np.float32) / np.sqrt(dim)
    return ProductCodec("made-up", rotation, centroids.astype(np.float32)), rotation, centroids


@settings(deadline=None)
@given(n_tokens=st.integers(0, 30), dim=st.integers(1, 400))
def test_the_codec_without_training_takes_any_dimension(n_tokens: int, dim: int) -> None:
    codec = codec_for("any", dim)
    vectors = unit_vectors(n_tokens, dim, np.random.default_rng(dim))
    codes = codec.encode(vectors)
    assert codes.shape == (n_tokens, codec.width)
    assert codes.dtype == np.uint8
    assert codec.width == -(-dim // 4)
    back = codec.decode(codes)
    assert back.shape == vectors.shape
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-5)
    # The rounding of a component that is normally distributed leaves 0.94; a few components may fare worse.
    assert ((back * vectors).sum(axis=1) > 0.75).all()
    if dim >= 128 and n_tokens:
        assert (back * vectors).sum(axis=1).mean() > 0.92


@given(dim=st.integers(1, 60))
def test_the_rotation_keeps_lengths_and_spreads_single_components(dim: int) -> None:
    codec = codec_named(ROTATED, dim)
    rotated = np.eye(dim, dtype=np.float32) @ codec.rotation
    np.testing.assert_allclose(rotated @ rotated.T, np.eye(dim), atol=1e-5)
    assert np.abs(rotated).max() <= np.sqrt(2 / dim) + 1e-6


def test_rounding_is_that_of_a_loop() -> None:
    """Each rotated component becomes the nearest of four values; four of them lie in a byte, lowest first."""
    codec = codec_named(ROTATED, 10)
    vectors = unit_vectors(7, 10, np.random.default_rng(2))
    rotated = vectors @ codec.rotation * np.sqrt(10)
    levels = np.array([-1.510, -0.4528, 0.4528, 1.510])
    for row, codes in zip(rotated, codec.encode(vectors), strict=True):
        nearest = [int(np.argmin(np.abs(levels - component))) for component in row]
        expected = [0, 0, 0]
        for place, level in enumerate(nearest):
            expected[place // 4] += level << 2 * (place % 4)
        assert codes.tolist() == expected


@settings(deadline=None, max_examples=30)
@given(
    n_tokens=st.integers(0, 20), n_parts=st.integers(1, 6), size=st.integers(1, 5), seed=st.integers(0, 99)
)
def test_each_part_has_the_code_of_the_nearest_centroid(
    n_tokens: int, n_parts: int, size: int, seed: int
) -> None:
    codec, rotation, centroids = made_up_product_codec(n_parts * size, n_parts)
    vectors = unit_vectors(n_tokens, n_parts * size, np.random.default_rng(seed))
    codes = codec.encode(vectors)
    assert codes.shape == (n_tokens, n_parts)
    for vector, chosen, back in zip(vectors, codes, codec.decode(codes), strict=True):
        parts = (vector @ rotation).reshape(n_parts, size)
        for part, code, of_part in zip(parts, chosen, centroids, strict=True):
            distances = ((of_part - part) ** 2).sum(axis=1)
            assert distances[code] <= distances.min() + 1e-5
        joined = np.concatenate([of_part[code] for code, of_part in zip(chosen, centroids, strict=True)])
        expected = rotation @ joined
        np.testing.assert_allclose(back, expected / np.linalg.norm(expected), atol=1e-4)


def test_many_tokens_are_coded_as_each_alone() -> None:
    codec = codec_named(TRAINED, 384)
    vectors = unit_vectors(5000, 384, np.random.default_rng(1))
    codes = codec.encode(vectors)
    places = [0, 511, 512, 4999]
    alone = np.concatenate([codec.encode(vectors[place : place + 1]) for place in places])
    # A tie between two centroids may fall either way, so a code here and there may differ.
    assert (codes[places] == alone).mean() > 0.95


def test_the_trained_codec_is_for_the_default_model_alone() -> None:
    assert TRAINED_FOR == MODEL_NAME
    assert codec_for(MODEL_NAME, 384).name == TRAINED
    assert codec_for(MODEL_NAME, 128).name == ROTATED
    assert codec_for("another", 384).name == ROTATED
    assert codec_named(TRAINED, 384).width == 32


@pytest.mark.parametrize(("name", "dim"), [("of-tomorrow", 384), (TRAINED, 128)])
def test_an_unknown_codec_is_refused(name: str, dim: int) -> None:
    with pytest.raises(EncoderError, match=f"no codec '{name}' .* {dim}"):
        codec_named(name, dim)


def test_the_shipped_rotation_is_one() -> None:
    codec = codec_named(TRAINED, 384)
    rotation = codec.rotation
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(384), atol=2e-3)
