"""Late interaction: a query's token vectors against the stored ones of each chunk.

Khattab and Zaharia 2020 (ColBERT), https://arxiv.org/abs/2004.12832, equation 3, with a weight for each token
of the query.
"""

from __future__ import annotations

import re

import numpy as np

from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids, TokenVectors

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
