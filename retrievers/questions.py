"""Dense retrieval over every vector that leads to a chunk: its own, and those of the questions it answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from indexing.found import Found
from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from retrievers.dense import query_vector
from retrievers.expanded import best_of_heads, chunks_of
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
        chunk_ids, places = np.unique(ids, return_index=True)
        scores = {
            "dense": self._snapshot.vectors.score(vector, chunk_ids),
            "questions": self._question_scores(vector, chunk_ids),
        }
        by: Floats = np.maximum(scores["dense"], scores["questions"])
        by_own = scores["dense"] >= scores["questions"]
        shares = {"dense": np.where(by_own, by, 0.0), "questions": np.where(by_own, 0.0, by)}
        return to_hits(chunk_ids, documents[places], scores, by=by, top_k=top_k, shares=shares)

    def score(self, query: Query, chunk_ids: Ids) -> Floats:
        """The score of every given chunk; raises KeyError for one that is not there."""
        vector = query_vector(query)
        dense = self._snapshot.vectors.score(vector, chunk_ids)
        return np.asarray(np.maximum(dense, self._question_scores(vector, chunk_ids)), dtype=np.float32)

    def _question_scores(self, vector: Floats, chunk_ids: Ids) -> Floats:
        """The cosine of each chunk's nearest question, −1 for a chunk without one."""
        index = self._questions
        if index is None:
            return np.full(len(chunk_ids), -1.0, dtype=np.float32)
        heads = self._nodes.heads("question", chunk_ids.tolist())
        return best_of_heads(
            chunk_ids, heads, index, lambda ids: index.vectors.score(vector, ids), without=-1.0
        )

    def _by_question(self, query: Query, vector: Floats, top_k: int) -> Found:
        """The nearest questions as chunks: all that are no farther than the nearest of `top_k` chunks."""
        if self._questions is None:
            none = np.empty(0, dtype=np.int64)
            return Found(chunk_ids=none, document_ids=none, scores=np.empty(0, dtype=np.float32))
        selection = self._questions.select(query.allowed_documents)
        limit = top_k * QUESTIONS_A_CHUNK
        while True:
            found = self._questions.vectors.search(vector, limit, selection)
            chunks = chunks_of(self._nodes, self._snapshot, found)
            firsts = np.sort(np.unique(chunks.chunk_ids, return_index=True)[1])
            seen_all = len(found) < limit
            if seen_all or (len(firsts) >= top_k and found.scores[-1] < chunks.scores[firsts[top_k - 1]]):
                return chunks
            limit *= 4
