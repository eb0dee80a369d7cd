"""Token vectors kept as bytes."""

from __future__ import annotations

import numpy as np
import pytest

from indexing import token_vectors
from indexing.types import TokenVectors


def random_tokens(n_tokens: int, dim: int) -> TokenVectors:
    chosen = np.random.default_rng(3)
    vectors = chosen.standard_normal((n_tokens, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.arange(n_tokens, dtype=np.int32) * 5
    return TokenVectors(vectors=vectors, offsets=np.stack([starts, starts + 4], axis=1))


def test_what_comes_back_is_close_and_the_offsets_are_exact() -> None:
    tokens = random_tokens(50, 384)
    data = token_vectors.to_bytes(tokens)
    assert len(data) == 50 * 394
    back = token_vectors.from_bytes(data, 50, 384)
    assert (back.offsets == tokens.offsets).all()
    assert np.sum(back.vectors * tokens.vectors, axis=1).min() > 0.9999
    assert np.allclose(np.linalg.norm(back.vectors, axis=1), 1, atol=1e-6)


def test_no_tokens_and_a_zero_vector_are_kept_too() -> None:
    none = random_tokens(0, 8)
    assert token_vectors.from_bytes(token_vectors.to_bytes(none), 0, 8).vectors.shape == (0, 8)
    zero = TokenVectors(vectors=np.zeros((1, 8), np.float32), offsets=np.zeros((1, 2), np.int32))
    assert (token_vectors.from_bytes(token_vectors.to_bytes(zero), 1, 8).vectors == 0).all()


def test_sizes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="are not 3 tokens"):
        token_vectors.from_bytes(token_vectors.to_bytes(random_tokens(2, 8)), 3, 8)
