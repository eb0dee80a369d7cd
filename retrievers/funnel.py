"""Funnel search: many chunks by a short prefix of their vectors, few by the whole.

Kusupati et al. 2022, https://arxiv.org/abs/2205.13147, section 4.3: shortlist with the first dimensions,
rescore the shortlist with more, and so on. It supposes vectors whose prefixes mean something: a model trained
for it, or the rotation `pca`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from indexing.prefixes import PrefixIndex
from indexing.snapshot import Snapshot
from indexing.types import Floats
from retrievers.dense import query_vector
from retrievers.hits import to_hits
from retrievers.types import Hit, Query

FunnelSteps = Literal["two", "halving"]

FIRST_DIM = 64
SHORTLIST_FACTOR = 4
"""With two steps, so many times the candidates are shortlisted."""


class FunnelRetriever:
    """Inner product with the query's vector, over what a funnel leaves.

    "two": a shortlist of four times `candidate_k` by the first `first_dim` dimensions, then whole vectors.
    "halving": the dimensions double and the shortlist halves from step to step, down to `candidate_k` chunks
    for the whole vectors. Up to `candidate_k` a shorter result is a prefix of a longer one. Raises ValueError
    for a query without a vector.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        first_dim: int = FIRST_DIM,
        steps: FunnelSteps = "two",
        candidate_k: int = 100,
    ) -> None:
        self._snapshot = snapshot
        self._first_dim = min(first_dim, snapshot.segments.dim)
        self._steps = steps
        self._candidate_k = candidate_k

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def schedule(self, top_k: int) -> list[tuple[int, int]]:
        """The steps before the whole vectors: (dimensions, chunks kept)."""
        n_last = max(top_k, self._candidate_k)
        if self._steps == "two":
            return [(self._first_dim, SHORTLIST_FACTOR * n_last)]
        dims = list(_doubling(self._first_dim, self._snapshot.segments.dim))
        return [(dim, n_last << (len(dims) - 1 - step)) for step, dim in enumerate(dims)]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        vector: Floats = np.ascontiguousarray(query_vector(query), dtype=np.float32)
        selection = self._snapshot.select(query.allowed_documents)
        (first, *rest) = self.schedule(top_k)
        found = PrefixIndex(self._snapshot.segments, first[0]).search(vector, first[1], selection)
        ids, documents = found.chunk_ids, found.document_ids
        for dim, n_kept in rest:
            scores = PrefixIndex(self._snapshot.segments, dim).score(vector, ids)
            kept = np.lexsort((ids, -scores))[:n_kept]
            ids, documents = ids[kept], documents[kept]
        whole = self._snapshot.vectors.score(vector, ids)
        return to_hits(ids, documents, {"dense": whole}, by=whole, top_k=top_k)


def _doubling(first: int, whole: int) -> Iterator[int]:
    """The first dimension and its doubles, as far as they are shorter than the whole."""
    dim = first
    yield dim
    while 2 * dim < whole:
        dim *= 2
        yield dim
