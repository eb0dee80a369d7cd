"""Late interaction: a query's token vectors against the stored ones of each chunk.

Khattab and Zaharia 2020 (ColBERT), https://arxiv.org/abs/2004.12832, equation 3, with a weight for each token
of the query.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids, TokenVectors
from retrievers.errors import ModeUnavailable
from retrievers.hits import to_hits
from retrievers.types import Hit, Query

FILL_WORD_WEIGHT = 0.15
"""Weight of a token of a word without a meaning of its own, as a share of the rarest word's."""

_WORD = re.compile(r"\w+")


def maxsim(snapshot: Snapshot, tokens: TokenVectors, chunk_ids: Ids, weights: Floats | None = None) -> Floats:
    """Σ_i w_i max_j ⟨q_i, d_j⟩ for each chunk d, shape (n_chunks,); `weights` are 1 where none are given.

    A chunk without tokens has 0. Raises KeyError for a chunk that is not in the index, IndexMissing if the
    version was built without token vectors, EncoderError if this program does not have their codec.
    """
    best = token_matches(snapshot, tokens, chunk_ids)
    if weights is None:
        return np.asarray(best.sum(axis=1), dtype=np.float32)
    return np.asarray(best @ np.asarray(weights, dtype=np.float32))


def token_matches(snapshot: Snapshot, tokens: TokenVectors, chunk_ids: Ids) -> Floats:
    """max_j ⟨q_i, d_j⟩ for each chunk d and each token i, shape (n_chunks, n_tokens); raises as `maxsim`."""
    return snapshot.best_products(tokens.vectors, chunk_ids)


def token_weights(snapshot: Snapshot, text: str, tokens: TokenVectors) -> Floats:
    """A weight for each token of a query, summing to 1: the idf of its word among the chunks of the index.

    A word that the index's analyzer leaves out weighs `FILL_WORD_WEIGHT` of the rarest one. A token that
    stands for no characters, such as a mask that was appended, weighs as much as the others on average.
    """
    words = list(_WORD.finditer(text))
    rarities = snapshot.lexical.rarity([word.group() for word in words])
    fill = FILL_WORD_WEIGHT * max(rarities, default=0.0)
    starts, ends = tokens.offsets[:, 0], tokens.offsets[:, 1]
    weights = np.full(len(starts), fill, dtype=np.float32)
    for word, rarity in zip(words, rarities, strict=True):
        weights[(starts >= word.start()) & (starts < word.end())] = max(rarity, fill)
    standing = ends > starts
    if standing.any():
        weights[~standing] = weights[standing].mean()
    total = float(weights.sum())
    return weights / total if total else np.full(len(weights), 1 / max(len(weights), 1), dtype=np.float32)


class LateInteractionRetriever:
    """The best chunks of the whole index by MaxSim, by way of the lists of centroids that segments keep.

    Raises ModeUnavailable for an index without token vectors, ValueError for a query without tokens' vectors.
    A query without any token finds nothing.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        if snapshot.manifest.spec.token_codec is None:
            raise ModeUnavailable(
                "This index version was built without token vectors. Run `footnote index build`, with "
                "FOOTNOTE_ENCODER_KEEP_TOKENS set to true."
            )
        self._snapshot = snapshot

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def score(self, query: Query, chunk_ids: Ids) -> Floats:
        """The score of every given chunk; raises KeyError for one that is not there."""
        return maxsim(self._snapshot, query_tokens(query), chunk_ids)

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        vectors = query_tokens(query).vectors
        if not len(vectors):
            return []
        weights = np.ones(len(vectors), dtype=np.float32)
        selection = self._snapshot.select(query.allowed_documents)
        found = self._snapshot.search_tokens(vectors, weights, top_k, selection)
        scores = {"late": found.scores}
        return to_hits(found.chunk_ids, found.document_ids, scores, by=found.scores, top_k=top_k)


def query_tokens(query: Query) -> TokenVectors:
    """The query's token vectors; raises ValueError if it has none."""
    if query.tokens is None:
        raise ValueError("Late interaction needs a query with the vectors of its tokens.")
    return query.tokens
