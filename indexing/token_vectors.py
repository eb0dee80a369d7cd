"""Token vectors as bytes: eight bits a component and a scale a token.

A token of dimension d takes d + 10 bytes: a float16 scale, two int32 offsets, d int8 components.
"""

from __future__ import annotations

import numpy as np

from indexing.types import Floats, TokenVectors


def to_bytes(tokens: TokenVectors) -> bytes:
    """The vectors rounded to 1/127 of each token's largest component; offsets exactly.

    >>> offsets = np.array([[0, 3], [4, 9]], np.int32)
    >>> tokens = TokenVectors(vectors=np.eye(2, dtype=np.float32), offsets=offsets)
    >>> len(to_bytes(tokens))
    24
    """
    scales = (np.abs(tokens.vectors).max(axis=1, initial=0.0) / 127).astype("<f2")
    safe = np.where(scales > 0, scales, 1).astype(np.float32)
    rounded = np.clip(np.rint(tokens.vectors / safe[:, None]), -127, 127).astype(np.int8)
    parts: list[bytes] = [scales.tobytes(), tokens.offsets.astype("<i4").tobytes(), rounded.tobytes()]
    return b"".join(parts)


def from_bytes(data: bytes, n_tokens: int, dim: int) -> TokenVectors:
    """The reverse of `to_bytes`, each vector of length 1. Raises ValueError if the sizes disagree.

    >>> offsets = np.array([[0, 3], [4, 9]], np.int32)
    >>> tokens = TokenVectors(vectors=np.eye(2, dtype=np.float32), offsets=offsets)
    >>> back = from_bytes(to_bytes(tokens), n_tokens=2, dim=2)
    >>> back.vectors.tolist(), back.offsets.tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [[0, 3], [4, 9]])
    """
    if len(data) != n_tokens * (dim + 10):
        raise ValueError(f"{len(data)} bytes are not {n_tokens} tokens of dimension {dim}")
    offsets = np.frombuffer(data, "<i4", 2 * n_tokens, offset=2 * n_tokens).reshape(n_tokens, 2)
    rounded = np.frombuffer(data, np.int8, n_tokens * dim, offset=10 * n_tokens).reshape(n_tokens, dim)
    vectors: Floats = rounded.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return TokenVectors(vectors=vectors / np.maximum(lengths, 1e-9), offsets=offsets.astype(np.int32))
