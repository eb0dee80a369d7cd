"""Lexical retrieval from an index version."""

from __future__ import annotations

from collections.abc import Sequence

from indexing.snapshot import Snapshot
from retrievers.hits import to_hits
from retrievers.types import Hit, Query


class Bm25Retriever:
    """BM25 over the inverted index; gives only chunks that share a term with the query."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        selection = self._snapshot.select(query.allowed_documents)
        found = self._snapshot.lexical.search(query.text, top_k, selection)
        scores = {"bm25": found.scores}
        return to_hits(found.chunk_ids, found.document_ids, scores, by=found.scores, top_k=top_k)
