"""BM25 as Lucene has it, with document lengths in its one-byte code.

The inverted index orders by the same formula; it is computed here again because the engine's statistics count
deleted chunks until it merges them away, and its sums depend on the order in which it visits them.
"""

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


def coded_length(lengths: Integers) -> NDArray[np.int64]:
    """Lengths as the one-byte code of Lucene and tantivy gives them back: exact to 39, then cut.

    >>> coded_length(np.array([0, 39, 41, 55, 100, 1000])).tolist()
    [0, 39, 40, 54, 96, 984]
    """
    beyond = np.maximum(np.asarray(lengths, dtype=np.int64) - 24, 0)
    bits = np.frexp(beyond.astype(np.float64))[1]
    shift = np.maximum(bits - 4, 0)
    return np.where(np.asarray(lengths) < 24, lengths, 24 + ((beyond >> shift) << shift))
