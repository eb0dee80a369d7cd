"""The default: BM25, vectors and token vectors in one score, which is then drawn to those of like chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from retrievers.dense import query_vector
from retrievers.fusion import ALPHA, Doubles, convex_shares, min_max
from retrievers.hits import ranks_in, to_hits
from retrievers.hybrid import CANDIDATE_K, HybridRetriever
from retrievers.late_interaction import maxsim, token_weights
from retrievers.neighbours import Smoothing, smoothed
from retrievers.types import Hit, Query

MAXSIM_WEIGHT = 0.75
"""Of the MaxSim score, where BM25 and the vectors together weigh 1."""

BEYOND = -1.0
"""Added to the score of a chunk that was no candidate: it comes after all that were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleSpec:
    """What the score is made of; docs/decisions/0020 says why.

    `alpha` is the weight of the dense score against BM25, `maxsim_weight` that of MaxSim against both;
    `candidate_k` is how many chunks BM25 and the vectors each give.
    """

    alpha: float = ALPHA
    maxsim_weight: float = MAXSIM_WEIGHT
    smoothing: Smoothing = field(default_factory=Smoothing)
    candidate_k: int = CANDIDATE_K

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie between 0 and 1, not {self.alpha}.")
        if self.maxsim_weight < 0 or self.candidate_k < 1:
            raise ValueError("The weight of MaxSim is at least 0, and there is at least one candidate.")


class EnsembleRetriever:
    """Scores the best `candidate_k` of BM25 and of the vectors by both and by MaxSim, and smooths the scores.

    h = (alpha φ(cosine) + (1 - alpha) φ(BM25) + w φ(MaxSim)) / (1 + w), each φ 1 at the best candidate, with
    the tokens of the query weighted by the idf of their words; then `retrievers.neighbours.smoothed`. Where
    the index or the query has no token vectors, w is 0.

    What is a candidate does not depend on how many hits are wanted, so a shorter result is a prefix of a
    longer one as far as candidates go. What is wanted beyond them follows by BM25 and vectors, with `BEYOND`
    added. The shares of a hit sum to its score: what each of the three adds, and as "neighbours" what
    smoothing adds or takes. Raises ValueError for a query without a vector.
    """

    def __init__(self, snapshot: Snapshot, spec: EnsembleSpec | None = None) -> None:
        self._snapshot = snapshot
        self._spec = spec or EnsembleSpec()

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        hits = self._candidates(query)
        if top_k > len(hits):
            hits += self._beyond(query, hits, top_k)
        return hits[:top_k]

    def _candidates(self, query: Query) -> list[Hit]:
        """All candidates, best first, ties by chunk id."""
        spec, lexical, vectors = self._spec, self._snapshot.lexical, self._snapshot.vectors
        vector = query_vector(query)
        selection = self._snapshot.select(query.allowed_documents)
        by_term = lexical.search(query.text, spec.candidate_k, selection)
        by_vector = vectors.search(vector, spec.candidate_k, selection)
        document_ids = np.concatenate([by_term.document_ids, by_vector.document_ids])
        chunk_ids, places = np.unique(
            np.concatenate([by_term.chunk_ids, by_vector.chunk_ids]), return_index=True
        )
        scores = {"bm25": lexical.score(query.text, chunk_ids), "dense": vectors.score(vector, chunk_ids)}
        scores |= self._maxsim(query, chunk_ids)
        shares = ensemble_shares(scores, vectors.take(chunk_ids), spec)
        by = sum(shares.values(), np.zeros(len(chunk_ids))).astype(np.float32)
        return to_hits(
            chunk_ids,
            document_ids[places],
            scores,
            by=by,
            top_k=len(chunk_ids),
            shares=shares,
            ranks={
                "bm25": ranks_in(chunk_ids, by_term.chunk_ids),
                "dense": ranks_in(chunk_ids, by_vector.chunk_ids),
            },
        )

    def _maxsim(self, query: Query, chunk_ids: Ids) -> dict[str, Floats]:
        """The MaxSim scores by their name; nothing where there are no token vectors to compare."""
        if (
            query.tokens is None
            or not self._spec.maxsim_weight
            or not self._snapshot.manifest.spec.token_bytes
        ):
            return {}
        weights = token_weights(self._snapshot, query.text, query.tokens)
        return {"maxsim": maxsim(self._snapshot, query.tokens, chunk_ids, weights)}

    def _beyond(self, query: Query, hits: Sequence[Hit], top_k: int) -> list[Hit]:
        """What BM25 and vectors find among their best `top_k` beside the candidates, ranked after these."""
        known = {hit.chunk_id for hit in hits}
        spec = self._spec
        hybrid = HybridRetriever(self._snapshot, alpha=spec.alpha, candidate_k=spec.candidate_k)
        found = [hit for hit in hybrid.retrieve([query], top_k)[0] if hit.chunk_id not in known]
        return [
            replace(
                hit, rank=rank, score=hit.score + BEYOND, shares={**hit.shares, "beyond candidates": BEYOND}
            )
            for rank, hit in enumerate(found, start=len(hits) + 1)
        ]


def ensemble_shares(scores: Mapping[str, Floats], vectors: Floats, spec: EnsembleSpec) -> dict[str, Doubles]:
    """What makes up the score of each candidate, by name: it is the sum, and lies between 0 and 1.

    `scores` has the raw scores "dense", "bm25" and maybe "maxsim" of all candidates, `vectors` (n, dim) their
    vectors. Only "neighbours" can be below 0.

    >>> scores = {"dense": np.array([0.5, -0.5]), "bm25": np.array([4.0, 8.0])}
    >>> scores["maxsim"] = np.array([0.2, 0.8])
    >>> shares = ensemble_shares(scores, np.eye(2), EnsembleSpec(alpha=0.5, maxsim_weight=1.0))
    >>> {name: share.round(3).tolist() for name, share in shares.items()}
    {'dense': [0.25, 0.083], 'bm25': [0.125, 0.25], 'maxsim': [0.125, 0.5], 'neighbours': [0.0, 0.0]}
    """
    shares = convex_shares(scores["dense"], scores["bm25"], alpha=spec.alpha)
    if "maxsim" in scores:
        shares["maxsim"] = spec.maxsim_weight * min_max(np.maximum(scores["maxsim"], 0), 0.0)
        shares = {name: share / (1 + spec.maxsim_weight) for name, share in shares.items()}
    alone = sum(shares.values(), np.zeros(len(vectors)))
    shares["neighbours"] = smoothed(alone, vectors, spec.smoothing) - alone
    return shares
