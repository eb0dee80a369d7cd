"""Fewer token vectors for a text: neighbours that are alike become one.

Token pooling (Clavié et al. 2024, https://arxiv.org/abs/2409.14683) of neighbours in place of any tokens, and
of long texts more than of short ones. It costs a fraction of clustering all tokens, loses no more, and what a
vector stands for is a stretch of the text. docs/decisions/0021 has the measurements.
"""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from indexing.types import Floats, TokenVectors

KEPT_PER_ROOT = 6.2
"""Of n tokens this many times √n vectors are kept: all of 38, half of 154, 99 of the 254 of a full window."""


def pooled(text: str, tokens: TokenVectors, per_root: float = KEPT_PER_ROOT) -> Floats:
    """The vectors to keep of a text, each of length 1, in order; shape (n_kept, dim).

    Tokens without a letter or digit are left out, unless there are no others or they stand for no characters.
    While more than ⌈per_root · √n⌉ are left of n, neighbours are merged whose merging loses least by Ward's
    criterion, n₁n₂ / (n₁ + n₂) · (1 - cosine): in one round all pairs that are better than those beside them.
    The vector of a stretch is the mean of its tokens', of length 1.
    """
    of_words = [
        end <= start or any(map(str.isalnum, text[start:end])) for start, end in tokens.offsets.tolist()
    ]
    sums = tokens.vectors[of_words] if any(of_words) else tokens.vectors
    sizes = np.ones(len(sums), dtype=np.float32)
    n_kept = ceil(per_root * sqrt(len(tokens.vectors)))
    while len(sums) > n_kept:
        pairs = _best_pairs(_unit(sums), sizes)[: len(sums) - n_kept]
        if not len(pairs):  # what a model gives may be no numbers
            break
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
