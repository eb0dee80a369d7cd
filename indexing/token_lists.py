"""Which rows of a segment have a token near a centroid: lists that narrow a search down before it is exact.

The pruning of PLAID (Santhanam et al. 2022, https://arxiv.org/abs/2205.09707), with centroids of each
segment's own, so that a segment needs nothing beside it and a merge makes them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.columns import Column, read_columns, write_columns
from indexing.errors import IndexDamaged
from indexing.spans import spans
from indexing.token_codec import TokenCodec
from indexing.token_codes import TokenCodes
from indexing.types import Floats
from indexing.vectors import faiss

FILE = "token_lists.col"
MIN_ROWS = 16_384
"""A smaller segment has no lists: all of it is soon scored, and a commit may have to write it anew, which is
not to take the seconds that k-means takes. A commit takes in segments of less than half as many rows."""

MOST_CENTROIDS = 1024
_SAMPLE_A_CENTROID = 48
_ROUNDS = 4
_TOKENS_A_SLICE = 8192
_SEED = 7

N_PROBED = 16
"""Centroids looked up for each token of a query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLists:
    """`rows[starts[c]:starts[c + 1]]` are the rows with a token that is nearest to centroid c, rising.

    `centroids` has shape (n_centroids, dim), float16, each of length 1.
    """

    centroids: NDArray[np.float16]
    starts: NDArray[np.int64]
    rows: NDArray[np.uint32]

    @classmethod
    def build(cls, tokens: TokenCodes, codec: TokenCodec, pause: Callable[[], None]) -> TokenLists:
        centroids = _centroids(tokens, codec)
        n_centroids = len(centroids)
        parts: list[NDArray[np.uint32]] = []
        counts: list[NDArray[np.int64]] = []
        for nearest, rows in _nearest(tokens, codec, centroids, pause):
            pairs = np.unique(nearest.astype(np.int64) << 32 | rows)
            parts.append((pairs & 0xFFFFFFFF).astype(np.uint32))
            counts.append(np.bincount(pairs >> 32, minlength=n_centroids))
        sizes = np.sum([np.zeros(n_centroids, dtype=np.int64), *counts], axis=0)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
        return cls(
            centroids=centroids.astype(np.float16), starts=starts, rows=_by_centroid(starts, parts, counts)
        )

    @classmethod
    def load(cls, directory: Path, n_rows: int, dim: int) -> TokenLists:
        """The lists of a segment, mapped. Raises IndexDamaged if they do not fit one of so many rows."""
        path = directory / FILE
        columns = read_columns(path)
        starts, rows, centroids = columns["starts"], columns["rows"], columns["centroids"]
        if starts[0] != 0 or starts[-1] != len(rows) or (len(starts) - 1) * dim != len(centroids):
            raise IndexDamaged(f"{path} holds the lists of another segment than one of {n_rows} rows.")
        return cls(centroids=centroids.reshape(-1, dim), starts=starts, rows=rows)

    def save(self, directory: Path) -> None:
        flat: Column = self.centroids.reshape(-1)
        write_columns(directory / FILE, {"starts": self.starts, "rows": self.rows, "centroids": flat})

    def estimate(self, vectors: Floats, weights: Floats, n_rows: int) -> Floats:
        """About Σ_i w_i max_j ⟨q_i, d_j⟩ for every row, from the centroids alone, shape (n_rows,).

        A row without a token near one of the `N_PROBED` best centroids of a query's token counts there as
        much as the last of them.
        """
        likeness = (vectors * weights[:, None]) @ self.centroids.astype(np.float32).T
        n_probed = min(N_PROBED, likeness.shape[1])
        total = np.zeros(n_rows, dtype=np.float32)
        if not n_probed:
            return total
        best = np.empty(n_rows, dtype=np.float32)
        probed = np.argsort(-likeness, axis=1, kind="stable")[:, :n_probed]
        for of_token, centroids in zip(likeness, probed, strict=True):
            best.fill(of_token[centroids[-1]])
            for centroid in centroids[::-1].tolist():  # the best last, so that it counts
                best[self.rows[self.starts[centroid] : self.starts[centroid + 1]]] = of_token[centroid]
            total += best
        return total


def _centroids(tokens: TokenCodes, codec: TokenCodec) -> Floats:
    """By spherical k-means over a sample, shape (n_centroids, dim): about half the root of the tokens."""
    n_tokens = len(tokens.codes)
    n_centroids = int(min(MOST_CENTROIDS, max(1, 2 ** round(log2(max(n_tokens, 4)) / 2 - 1))))
    sample = np.random.default_rng(_SEED).choice(
        n_tokens, min(n_tokens, n_centroids * _SAMPLE_A_CENTROID), replace=False
    )
    vectors = codec.decode(tokens.codes[np.sort(sample)])
    if len(vectors) <= n_centroids:
        return vectors
    means = faiss.Kmeans(
        codec.dim, n_centroids, niter=_ROUNDS, seed=_SEED, spherical=True, min_points_per_centroid=1
    )
    means.train(vectors)
    lengths = np.linalg.norm(means.centroids, axis=1, keepdims=True)
    return np.asarray(means.centroids / np.maximum(lengths, np.float32(1e-9)))


def _by_centroid(
    starts: NDArray[np.int64], parts: Sequence[NDArray[np.uint32]], counts: Sequence[NDArray[np.int64]]
) -> NDArray[np.uint32]:
    """The rows of all parts, centroid by centroid; a part has `counts` rows of each, in their order."""
    rows = np.empty(int(starts[-1]), dtype=np.uint32)
    filled = starts[:-1].copy()
    for part, of_part in zip(parts, counts, strict=True):
        rows[spans(filled, of_part)] = part
        filled += of_part
    return rows


def _nearest(
    tokens: TokenCodes, codec: TokenCodec, centroids: Floats, pause: Callable[[], None]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """For slices of tokens, the centroid nearest to each, and the row it belongs to."""
    for start in range(0, len(tokens.codes), _TOKENS_A_SLICE):
        pause()
        stop = min(start + _TOKENS_A_SLICE, len(tokens.codes))
        likeness = codec.decode(tokens.codes[start:stop]) @ centroids.T
        rows = np.searchsorted(tokens.starts, np.arange(start, stop), side="right") - 1
        yield likeness.argmax(axis=1), rows
