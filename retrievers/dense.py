"""Retrieval by the query's vector from an index version."""

from __future__ import annotations

from collections.abc import Sequence

from indexing.snapshot import Snapshot
from indexing.types import Floats
from retrievers.hits import to_hits
from retrievers.types import Hit, Query


class DenseRetriever:
    """Inner product with the query's vector; raises ValueError for a query without one."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        selection = self._snapshot.select(query.allowed_documents)
        found = self._snapshot.vectors.search(query_vector(query), top_k, selection)
        scores = {"dense": found.scores}
        return to_hits(found.chunk_ids, found.document_ids, scores, by=found.scores, top_k=top_k)


def query_vector(query: Query) -> Floats:
    """The query's vector; raises ValueError if it has none."""
    if query.vector is None:
        raise ValueError("Dense retrieval needs a query with a vector.")
    return query.vector
