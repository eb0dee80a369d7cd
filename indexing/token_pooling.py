"""Fewer token vectors for a text: neighbours that are alike become one.

Token pooling (Clavié et al. 2024, https://arxiv.org/abs/2409.14683) of neighbours in place of any tokens: it
costs a fraction of clustering them all, loses no more, and what a vector stands for is a stretch of the text.
docs/decisions/0021 has the measurements.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from indexing.types import Floats, TokenVectors

KEPT_SHARE = 0.47
"""So many vectors are kept of those of a text."""


def pooled(text: str, tokens: TokenVectors, share: float = KEPT_SHARE) -> Floats:
    """The vectors to keep of a text, shape (⌈share · n_tokens⌉, dim) or fewer, each of length 1, in order.

    Tokens without a letter or digit are left out, unless there are no others or they stand for no characters.
    Of what is left, neighbours are merged again and again whose merging loses least by Ward's criterion,
    n₁n₂ / (n₁ + n₂) · (1 - cosine): in one round all pairs that are better than those beside them. The vector
    of a stretch is the mean of its tokens', of length 1.
    """
    n_kept = ceil(share * len(tokens.vectors))
    of_words = [
        end <= start or any(map(str.isalnum, text[start:end])) for start, end in tokens.offsets.tolist()
    ]
    sums = tokens.vectors[of_words] if any(of_words) else tokens.vectors
    sizes = np.ones(len(sums), dtype=np.float32)
    while len(sums) > n_kept:
        pairs = _best_pairs(_unit(sums), sizes)[: len(sums) - n_kept]
        sums, sizes = _merged(sums, pairs), _merged(sizes, pairs)
    return _unit(sums)


def _best_pairs(vectors: Floats, sizes: Floats) -> NDArray[np.intp]:
    """The left ones of neighbours to merge, the best first; no vector is in two pairs."""
    weights = sizes[:-1] * sizes[1:] / (sizes[:-1] + sizes[1:])
    costs = weights * (1 - np.einsum("ij,ij->i", vectors[:-1], vectors[1:]))
    before, after = np.append(np.inf, costs[:-1]), np.append(costs[1:], np.inf)
    pairs = np.flatnonzero((costs < before) & (costs <= after))
    return pairs[np.argsort(costs[pairs], kind="stable")]


def _merged(values: Floats, pairs: NDArray[np.intp]) -> Floats:
    """The values with the right one of each pair added to the left one."""
    summed = values.copy()
    summed[pairs] += values[pairs + 1]
    return np.delete(summed, pairs + 1, axis=0)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-9)))
