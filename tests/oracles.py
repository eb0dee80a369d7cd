"""Naive second implementations of the first-stage scores."""

from __future__ import annotations

from collections import Counter
from math import log

import numpy as np

from indexing.analysis import build_analyzer
from tests.small_index import SmallChunks

_FOUR_BITS = sorted({mantissa << shift for shift in range(28) for mantissa in range(16)})


def coded_length(length: int) -> int:
    """The largest length with a one-byte code that does not exceed the length."""
    if length < 24:
        return length
    return 24 + max(value for value in _FOUR_BITS if value <= length - 24)


def bm25(chunks: SmallChunks, text: str) -> np.ndarray:
    """A score per chunk, in float64, chunk by chunk and term by term."""
    analyzer = build_analyzer()
    counts = [Counter(analyzer.analyze(chunk)) for chunk in chunks.texts]
    n = len(counts)
    average = sum(count.total() for count in counts) / n
    scores = np.zeros(n)
    for term in analyzer.analyze(text):
        frequency = sum(term in count for count in counts)
        weight = log(1 + (n - frequency + 0.5) / (frequency + 0.5))
        for row, count in enumerate(counts):
            length = coded_length(count.total())
            saturation = count[term] + 1.2 * (0.25 + 0.75 * length / average)
            scores[row] += weight * 2.2 * count[term] / saturation
    return scores


def cosine(chunks: SmallChunks, vector: np.ndarray) -> np.ndarray:
    """Inner products with the vectors as fp16 keeps them."""
    return chunks.vectors.astype(np.float16).astype(np.float64) @ vector.astype(np.float64)


def ranked(chunks: SmallChunks, scores: np.ndarray, *, allowed: np.ndarray | None = None) -> list[int]:
    """Chunk ids, best first, ties by id; only those of the allowed documents."""
    scores = np.asarray(scores, dtype=np.float32)
    ids = chunks.chunk_ids
    order = np.lexsort((ids, -scores))
    if allowed is not None:
        order = order[np.isin(chunks.document_ids[order], allowed)]
    return [int(chunk_id) for chunk_id in ids[order]]
