"""Dense retrieval over every vector that leads to a chunk: its own, and those of the questions it answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from indexing.found import Found
from indexing.snapshot import Snapshot
from indexing.types import Floats
from retrievers.dense import query_vector
from retrievers.expanded import chunks_of
from retrievers.hits import to_hits
from retrievers.nodes import Nodes
from retrievers.types import Hit, Query

QUESTIONS_A_CHUNK = 4
"""So many question vectors are looked at for each chunk wanted, before more are."""


class QuestionsRetriever:
    """score(d) = max(cos(q, d), max over the questions of d of cos(q, question)).

    A chunk without questions has its own vector, so that what was taken in a moment ago is found too, and k
    chunks that exist come back. Without any questions it is dense retrieval.
    """

    def __init__(self, snapshot: Snapshot, nodes: Nodes) -> None:
        self._snapshot = snapshot
        self._nodes = nodes
        self._questions = nodes.open("question")

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        # A chunk among the best by the maximum is among as many best by the vector that gives the maximum.
        vector = query_vector(query)
        selection = self._snapshot.select(query.allowed_documents)
        own = self._snapshot.vectors.search(vector, top_k, selection)
        asked = self._by_question(query, vector, top_k)
        ids = np.concatenate([own.chunk_ids, asked.chunk_ids])
        documents = np.concatenate([own.document_ids, asked.document_ids])
        chunk_ids, places, inverse = np.unique(ids, return_index=True, return_inverse=True)
        questions = np.full(len(chunk_ids), -1.0, dtype=np.float32)
        np.maximum.at(questions, inverse[len(own) :], asked.scores)
        dense = self._snapshot.vectors.score(vector, chunk_ids)
        by: Floats = np.maximum(dense, questions)
        return to_hits(
            chunk_ids,
            documents[places],
            {"dense": dense, "questions": questions},
            by=by,
            top_k=top_k,
        )

    def _by_question(self, query: Query, vector: Floats, top_k: int) -> Found:
        """The nearest questions as chunks, until they are of `top_k` chunks or there are no more."""
        if self._questions is None:
            none = np.empty(0, dtype=np.int64)
            return Found(chunk_ids=none, document_ids=none, scores=np.empty(0, dtype=np.float32))
        selection = self._questions.select(query.allowed_documents)
        limit = top_k * QUESTIONS_A_CHUNK
        while True:
            found = self._questions.vectors.search(vector, limit, selection)
            chunks = chunks_of(self._nodes, self._snapshot, found)
            if len(found) < limit or len(np.unique(chunks.chunk_ids)) >= top_k:
                return chunks
            limit *= 4
