"""Reranking by late interaction: MaxSim over the token vectors that the index keeps.

Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832, with each token of the query weighted by the idf
of its word. Where the index keeps no token vectors, the passages are encoded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from indexing.encoding.base import Encoder
from indexing.errors import IndexMissing
from indexing.snapshot import Snapshot
from indexing.types import Floats, TokenVectors
from retrievers.late_interaction import maxsim, token_weights
from retrievers.reranking.placing import as_they_were, placed
from retrievers.types import Passage, Query


class LateInteractionReranker:
    """Orders passages by MaxSim; safe to use from threads.

    A score lies between -1 and 1: the mean over the query's tokens, by weight, of their best match. A query
    without tokens leaves the passages as they were.
    """

    def __init__(self, snapshot: Snapshot, encoder: Encoder) -> None:
        self._snapshot = snapshot
        self._encoder = encoder

    def rerank(self, query: Query, passages: Sequence[Passage], top_k: int) -> list[Passage]:
        """Raises EncoderError where texts cannot be encoded."""
        tokens = query.tokens or self._tokens_of(query.text)
        if not passages or not len(tokens.vectors):
            return as_they_were(passages, top_k)
        weights = token_weights(self._snapshot, query.text, tokens)
        scores = self._scores(passages, tokens, weights)
        return placed(passages, dict(enumerate(scores.tolist())), top_k)

    def _tokens_of(self, text: str) -> TokenVectors:
        encoded = self._encoder.encode_queries([text], with_tokens=True)
        assert encoded.tokens is not None
        return encoded.tokens[0]

    def _scores(self, passages: Sequence[Passage], tokens: TokenVectors, weights: Floats) -> Floats:
        chunk_ids = np.array([passage.chunk.id for passage in passages], dtype=np.int64)
        try:
            return maxsim(self._snapshot, tokens, chunk_ids, weights)
        except (IndexMissing, KeyError):
            pass  # made without token vectors, or the passages come from elsewhere
        texts = [passage.chunk.contextual_text for passage in passages]
        encoded = self._encoder.encode_documents(texts, with_tokens=True).tokens or ()
        return np.array([_best(tokens.vectors, of_text.vectors) @ weights for of_text in encoded], np.float32)


def _best(query: Floats, document: Floats) -> Floats:
    """The largest inner product of each query token, shape (n_tokens,); 0 where the document has none."""
    if not len(document):
        return np.zeros(len(query), dtype=np.float32)
    return np.asarray((query @ document.T).max(axis=1), dtype=np.float32)
