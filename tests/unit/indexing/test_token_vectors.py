"""Token vectors kept as bytes: what comes back, whatever they were coded with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing import token_vectors
from indexing.errors import EncoderError
from indexing.token_codec import ROTATED, codec_for, codec_named
from tests.small_index import unit_vectors

CODEC = codec_named(ROTATED, 8)


def eight_bits(vectors: np.ndarray) -> bytes:
    """Token vectors as the first release wrote them, with their offsets."""
    scales = (np.abs(vectors).max(axis=1, initial=0.0) / 127).astype("<f2")
    offsets = np.arange(2 * len(vectors), dtype="<i4")
    rounded = np.rint(vectors / np.maximum(scales, 1e-6).astype(np.float32)[:, None]).clip(-127, 127)
    return scales.tobytes() + offsets.tobytes() + rounded.astype(np.int8).tobytes()


@given(n_tokens=st.integers(0, 20), dim=st.integers(1, 40))
def test_codes_come_back_as_they_were_kept(n_tokens: int, dim: int) -> None:
    codec = codec_for("any", dim)
    codes = codec.encode(unit_vectors(n_tokens, dim, np.random.default_rng(n_tokens)))
    data = token_vectors.to_bytes(codec.name, codes)
    assert len(data) == 18 + codes.size
    np.testing.assert_array_equal(token_vectors.codes_of(data, n_tokens, codec), codes)
    np.testing.assert_allclose(token_vectors.vectors_of(data, n_tokens, dim), codec.decode(codes), atol=1e-6)


@given(n_tokens=st.integers(0, 20), dim=st.integers(1, 40))
def test_those_of_eight_bits_are_still_read_and_coded_anew(n_tokens: int, dim: int) -> None:
    vectors = unit_vectors(n_tokens, dim, np.random.default_rng(dim))
    data = eight_bits(vectors)
    back = token_vectors.vectors_of(data, n_tokens, dim)
    assert back.shape == (n_tokens, dim)
    assert ((back * vectors).sum(axis=1) > 0.9995).all()
    codec = codec_for("any", dim)
    np.testing.assert_array_equal(token_vectors.codes_of(data, n_tokens, codec), codec.encode(back))


def test_sizes_that_disagree_are_refused() -> None:
    vectors = unit_vectors(2, 8, np.random.default_rng(0))
    for data in (eight_bits(vectors), token_vectors.to_bytes(ROTATED, CODEC.encode(vectors))):
        with pytest.raises(ValueError, match="are not 3"):
            token_vectors.codes_of(data, 3, CODEC)


def test_a_codec_that_is_not_known_is_named() -> None:
    data = token_vectors.to_bytes("of-tomorrow", np.zeros((1, 2), np.uint8))
    with pytest.raises(EncoderError, match="of-tomorrow"):
        token_vectors.vectors_of(data, 1, 8)
