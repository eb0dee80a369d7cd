"""Inner products of vectors with coded token vectors, without decoding them.

A code has a byte for each part of the rotated vector, so its inner product with a vector is the sum of as
many numbers from tables that are made once for the vector: asymmetric distance computation (Jégou et al.
2011, https://doi.org/10.1109/TPAMI.2010.57, section 3). The squared length of what a code stands for is such
a sum too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexing.token_codec import TokenCodec
from indexing.token_codes import Codes, TokenCodes
from indexing.types import Floats

# A row of 32 bytes of a table is copied at once; with numbers of two bytes that is as many vectors.
_GROUP = 16
# Tokens whose sums stay in the cache of a core while all tables are gone through.
_TOKENS_A_BLOCK = 1024
# What rounding may add to the largest sum that two bytes hold, over all parts.
_HIGHEST = 32_000


def best_products(vectors: Floats, tokens: TokenCodes, codec: TokenCodec) -> Floats:
    """The largest inner product of each vector with a token of each chunk, shape (n_chunks, n_vectors).

    `vectors` has shape (n_vectors, dim), each of length 1 at most. 0 for a chunk without tokens. Numbers are
    rounded to about 1/15,000 a part, which is a tenth of what the codes lose.
    """
    best = np.zeros((len(tokens), len(vectors)), dtype=np.float32)
    filled = np.flatnonzero(np.diff(tokens.starts))
    if len(filled) and len(vectors):
        products = token_products(vectors, tokens.codes, codec)
        best[filled] = np.maximum.reduceat(products, tokens.starts[filled], axis=0)
    return best


def token_products(vectors: Floats, codes: Codes, codec: TokenCodec) -> Floats:
    """The inner product of each vector with what each code stands for, shape (n_tokens, n_vectors)."""
    tables, scale = _tables(vectors, codec)
    sums = np.empty((len(tables), len(codes), _GROUP), dtype=np.int16)
    scratch = np.empty((_TOKENS_A_BLOCK, _GROUP), dtype=np.int16)
    for start in range(0, len(codes), _TOKENS_A_BLOCK):
        block = slice(start, start + _TOKENS_A_BLOCK)
        parts = np.ascontiguousarray(codes[block].T, dtype=np.intp)
        for of_group, total in zip(tables, sums[:, block], strict=True):
            _add_up(of_group, parts, total, scratch[: len(total)])
    joined = sums.transpose(1, 0, 2).reshape(len(codes), len(tables) * _GROUP)
    lengths = np.sqrt(np.maximum(joined[:, len(vectors)], 1) * np.float32(scale))
    return np.asarray(joined[:, : len(vectors)] / lengths[:, None], dtype=np.float32)


def _tables(vectors: Floats, codec: TokenCodec) -> tuple[NDArray[np.int16], float]:
    """For groups of vectors, parts and codes what the code adds; after the last vector, to the length.

    Shape (n_groups, n_parts, 256, _GROUP), in units of 1 / the number that comes with them.
    """
    centroids = codec.centroids
    n_parts, _, size = centroids.shape
    rotated = np.zeros((len(vectors), n_parts * size), dtype=np.float32)
    rotated[:, : codec.dim] = vectors @ codec.rotation
    squares = (centroids**2).sum(axis=2)
    scale = _HIGHEST / max(1.0, float(squares.max(axis=1).sum()))
    values = np.zeros((n_parts, 256, -(-(len(vectors) + 1) // _GROUP) * _GROUP), dtype=np.float32)
    by_part = rotated.reshape(len(vectors), n_parts, size).transpose(1, 2, 0)
    values[:, :, : len(vectors)] = centroids @ by_part
    values[:, :, len(vectors)] = squares
    rounded = np.rint(values * np.float32(scale)).astype(np.int16)
    groups = rounded.reshape(n_parts, 256, -1, _GROUP).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(groups), scale


def _add_up(
    tables: NDArray[np.int16], parts: NDArray[np.intp], total: NDArray[np.int16], scratch: NDArray[np.int16]
) -> None:
    """Writes the sum over the parts of the rows that the codes name."""
    # "clip" spares a copy that "raise" makes; no byte is out of range.
    tables[0].take(parts[0], axis=0, out=total, mode="clip")
    for table, of_part in zip(tables[1:], parts[1:], strict=True):
        table.take(of_part, axis=0, out=scratch, mode="clip")
        total += scratch
