"""BM25 as Lucene has it, with document lengths in its one-byte code."""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Integers = NDArray[np.integer]

K1 = 1.2
B = 0.75


def idf(n_documents: int, document_frequency: int) -> float:
    """Lucene's inverse document frequency, never negative.

    >>> round(idf(3, 3), 6)
    0.133531
    """
    return log(1 + (n_documents - document_frequency + 0.5) / (document_frequency + 0.5))


def term_weight(counts: Doubles, lengths: Integers, average_length: float) -> Doubles:
    """(k1 + 1) tf / (tf + k1 (1 - b + b L / A)); the factor k1 + 1 changes the scale, not the order.

    >>> float(term_weight(np.array([1.0]), np.array([3]), 3.0)[0])
    1.0
    """
    return (K1 + 1) * counts / (counts + K1 * (1 - B + B * lengths / average_length))


def length_code(lengths: Integers) -> NDArray[np.uint8]:
    """The one-byte code of Lucene and tantivy for lengths: exact to 39, then four bits and their place.

    >>> length_code(np.array([0, 39, 40, 41, 55, 100, 1000])).tolist()
    [0, 39, 40, 40, 47, 57, 87]
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    beyond = np.maximum(lengths - 24, 0)
    shifts = np.maximum(np.frexp(beyond.astype(np.float64))[1] - 4, 0)
    floats = np.where(beyond < 8, beyond, ((shifts + 1) << 3) | ((beyond >> shifts) & 7))
    return np.minimum(np.where(lengths < 24, lengths, 24 + floats), 255).astype(np.uint8)


def coded_lengths() -> NDArray[np.int64]:
    """The least length of every code: what a length counts for.

    >>> coded_lengths()[[0, 39, 40, 47, 57, 87]].tolist()
    [0, 39, 40, 54, 96, 984]
    """
    codes = np.arange(256) - 24
    mantissas = np.where(codes < 8, codes, (codes & 7) | 8)
    return np.where(codes < 0, codes + 24, 24 + (mantissas << np.maximum((codes >> 3) - 1, 0)))
