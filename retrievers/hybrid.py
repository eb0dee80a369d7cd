"""Lexical and dense retrieval in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from retrievers.dense import query_vector
from retrievers.fusion import ALPHA, RRF_K, Doubles, ScoredList, convex_shares, fuse
from retrievers.hits import ranks_in, to_hits
from retrievers.types import Hit, Query

CANDIDATE_K = 100


class HybridRetriever:
    """Fuses the best `candidate_k` of BM25 and of the dense retriever, each of them scored by both.

    `method` is "convex" (the weight of the dense score is `alpha`) or "rrf". Up to `candidate_k` a shorter
    result is a prefix of a longer one. Raises ValueError for a query without a vector.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        method: Literal["convex", "rrf"] = "convex",
        alpha: float = ALPHA,
        rrf_k: int = RRF_K,
        candidate_k: int = CANDIDATE_K,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie between 0 and 1, not {alpha}.")
        self._snapshot = snapshot
        self._method = method
        self._alpha = alpha
        self._rrf_k = rrf_k
        self._candidate_k = candidate_k

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        vector = query_vector(query)
        lexical, vectors = self._snapshot.lexical, self._snapshot.vectors
        selection = self._snapshot.select(query.allowed_documents)
        candidate_k = max(top_k, self._candidate_k)
        by_term = lexical.search(query.text, candidate_k, selection)
        by_vector = vectors.search(vector, candidate_k, selection)

        ids = np.concatenate([by_term.chunk_ids, by_vector.chunk_ids])
        documents = np.concatenate([by_term.document_ids, by_vector.document_ids])
        chunk_ids, places = np.unique(ids, return_index=True)
        scores = {"bm25": lexical.score(query.text, chunk_ids), "dense": vectors.score(vector, chunk_ids)}
        rankings = {"bm25": by_term.chunk_ids, "dense": by_vector.chunk_ids}
        shares: Mapping[str, Doubles]
        if self._method == "convex":
            shares = convex_shares(scores["dense"], scores["bm25"], alpha=self._alpha)
        else:
            shares = _reciprocal_ranks(rankings, self._rrf_k)
        by: Floats = (shares["dense"] + shares["bm25"]).astype(np.float32)
        ranks = {name: ranks_in(chunk_ids, ranking) for name, ranking in rankings.items()}
        return to_hits(chunk_ids, documents[places], scores, by=by, top_k=top_k, shares=shares, ranks=ranks)


def _reciprocal_ranks(rankings: Mapping[str, Ids], k: int) -> Mapping[str, Doubles]:
    """What each ranking adds to the sum of reciprocal ranks, by rising chunk id."""
    lists = {
        name: ScoredList(ids=ranking, scores=np.zeros(len(ranking), dtype=np.float32))
        for name, ranking in rankings.items()
    }
    return fuse(lists, "rrf", k=k).shares
