"""Retrieval by learned sparse vectors from an index version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from indexing.encoding.sparse import SparseEncoder
from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from retrievers.hits import to_hits
from retrievers.types import Hit, Query


class SparseRetriever:
    """Inner product of sparse vectors over postings; gives only chunks that share a term with the query.

    The query is encoded here, since no other retriever can use what comes of it. Raises IndexMissing if the
    version has no sparse vectors.
    """

    def __init__(self, snapshot: Snapshot, encoder: SparseEncoder) -> None:
        self._snapshot = snapshot
        self._index = snapshot.sparse
        self._encoder = encoder

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def score(self, query: Query, chunk_ids: Ids) -> Floats:
        """The score of any chunks; KeyError for one that is not there."""
        return self._index.score(self._encoder.encode_query(query.text), chunk_ids)

    def contributions(self, text: str, chunk_id: int) -> Mapping[str, float]:
        """What each term adds to the chunk's score, the largest first; the sum is the score."""
        added = self._index.contributions(self._encoder.encode_query(text), chunk_id)
        ordered = sorted(added.items(), key=lambda item: (-item[1], item[0]))
        return {self._encoder.term(number): value for number, value in ordered}

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        selection = self._snapshot.select(query.allowed_documents)
        found = self._index.search(self._encoder.encode_query(query.text), top_k, selection)
        scores = {"sparse": found.scores}
        return to_hits(found.chunk_ids, found.document_ids, scores, by=found.scores, top_k=top_k)
