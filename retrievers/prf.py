"""Pseudo-relevance feedback on vectors: the best chunks turn the query towards themselves.

Rocchio 1971 with the vectors of a bi-encoder: Li et al. 2021, https://arxiv.org/abs/2108.11044, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from indexing.snapshot import Snapshot
from indexing.types import Floats
from retrievers.dense import query_vector
from retrievers.hits import to_hits
from retrievers.types import Hit, Query

N_FEEDBACK = 3
BETA = 0.5


class PrfRetriever:
    """Searches by vector, and once more with q + beta · mean(vectors of the `n_feedback` best), of length 1.

    Among the chunks that the query allows, in both searches. A hit keeps its first score as "dense" too.
    Raises ValueError for a query without a vector.
    """

    def __init__(self, snapshot: Snapshot, *, n_feedback: int = N_FEEDBACK, beta: float = BETA) -> None:
        if n_feedback < 1 or beta < 0:
            raise ValueError("Feedback needs at least one chunk, and a weight of at least 0.")
        self._snapshot = snapshot
        self._n_feedback = n_feedback
        self._beta = beta

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        vectors = self._snapshot.vectors
        selection = self._snapshot.select(query.allowed_documents)
        vector = query_vector(query)
        first = vectors.search(vector, self._n_feedback, selection)
        turned = rocchio(vector, vectors.take(first.chunk_ids), self._beta)
        found = vectors.search(turned, top_k, selection)
        scores = {"prf": found.scores, "dense": vectors.score(vector, found.chunk_ids)}
        shares = {"prf": found.scores.astype(np.float64)}
        return to_hits(
            found.chunk_ids, found.document_ids, scores, by=found.scores, top_k=top_k, shares=shares
        )


def rocchio(vector: Floats, feedback: Floats, beta: float) -> Floats:
    """The vector plus `beta` times the mean of the feedback's rows, of length 1; unchanged without any.

    >>> turned = rocchio(np.array([1.0, 0.0]), np.array([[0.0, 1.0], [0.0, 0.5]]), 1.0)
    >>> [round(float(value), 4) for value in turned]
    [0.8, 0.6]
    """
    if not len(feedback):
        return vector
    turned = vector + beta * feedback.mean(axis=0)
    length = np.linalg.norm(turned)
    return np.asarray(turned / length, dtype=np.float32) if length else vector
