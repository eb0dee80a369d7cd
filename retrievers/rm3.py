"""RM3: BM25 with terms that the best chunks add to the query.

Lavrenko and Croft 2001, https://doi.org/10.1145/383952.383972, mixed with the query as in Abdul-Jaleel et al.
2004 (TREC); the numbers are those of Anserini.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from indexing.lexical import ChunkTerms, WeightedTerms
from indexing.snapshot import Snapshot
from indexing.types import Floats
from retrievers.hits import to_hits
from retrievers.types import Hit, Query

N_FEEDBACK = 10
N_TERMS = 10
QUERY_WEIGHT = 0.5


class Rm3Retriever:
    """Searches by BM25, and once more with the terms of the best chunks added (`expanded`).

    Among the chunks that the query allows, in both searches; gives only chunks that have a term of the
    expanded query. A hit keeps its first score as "bm25" too.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        n_feedback: int = N_FEEDBACK,
        n_terms: int = N_TERMS,
        query_weight: float = QUERY_WEIGHT,
    ) -> None:
        if n_feedback < 1 or n_terms < 1 or not 0 < query_weight <= 1:
            raise ValueError("RM3 needs a chunk, a term, and a weight of the query above 0, at most 1.")
        self._snapshot = snapshot
        self._n_feedback = n_feedback
        self._n_terms = n_terms
        self._query_weight = query_weight

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        lexical = self._snapshot.lexical
        selection = self._snapshot.select(query.allowed_documents)
        found = lexical.search(self._expanded(query), top_k, selection)
        scores = {"rm3": found.scores, "bm25": lexical.score(query.text, found.chunk_ids)}
        shares = {"rm3": found.scores.astype(np.float64)}
        return to_hits(
            found.chunk_ids, found.document_ids, scores, by=found.scores, top_k=top_k, shares=shares
        )

    def contributions(self, query: Query, chunk_id: int, text: str) -> Mapping[str, float]:
        """What each term of the expanded query adds to the score of a chunk with this text, largest first."""
        added = self._snapshot.lexical.contributions(self._expanded(query), chunk_id, text)
        return dict(sorted(added.items(), key=lambda item: (-item[1], item[0])))

    def _expanded(self, query: Query) -> dict[int, float]:
        lexical = self._snapshot.lexical
        first = lexical.search(query.text, self._n_feedback, self._snapshot.select(query.allowed_documents))
        return expanded(
            lexical.weighted_terms(query.text),
            lexical.terms_in(first.chunk_ids),
            first.scores,
            n_terms=self._n_terms,
            query_weight=self._query_weight,
        )


def expanded(
    terms: WeightedTerms,
    feedback: Sequence[ChunkTerms],
    scores: Floats,
    *,
    n_terms: int = N_TERMS,
    query_weight: float = QUERY_WEIGHT,
) -> dict[int, float]:
    """λ P(t|q) + (1 - λ) P(t|R) for the query's terms and the `n_terms` likeliest of R; the sum is 1.

    P(t|R) = Σ_d P(t|d) P(d|q) over the feedback, P(t|d) the share of t among the terms of d, and P(d|q) the
    share of d in the sum of scores; scaled to sum to 1 over the terms that are kept. Ties go to the lower
    key. Without feedback the terms are returned as they are.

    >>> chunk = ChunkTerms(keys=np.array([5, 7], np.uint64), counts=np.array([1, 3], np.uint8), length=4)
    >>> expanded({5: 1.0}, [chunk], np.array([2.0]))
    {5: 0.625, 7: 0.375}
    """
    if not feedback:
        return dict(terms)
    keys = np.concatenate([chunk.keys for chunk in feedback])
    chances = np.concatenate(
        [
            chunk.counts / chunk.length * share
            for chunk, share in zip(feedback, scores / scores.sum(), strict=True)
        ]
    )
    distinct, place_of = np.unique(keys, return_inverse=True)
    likelihood = np.bincount(place_of, weights=chances)
    best = np.lexsort((distinct, -likelihood))[:n_terms]
    kept = likelihood[best] / likelihood[best].sum()
    n_words = sum(terms.values())
    mixed = {key: query_weight * weight / n_words for key, weight in terms.items()}
    for key, chance in zip(distinct[best].tolist(), kept.tolist(), strict=True):
        mixed[key] = mixed.get(key, 0.0) + (1 - query_weight) * chance
    return mixed
