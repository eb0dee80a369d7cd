"""Fusion of rankings: one score out of several, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexing.types import Floats, Ids

RRF_K = 60
"""Cormack, Clarke and Büttcher 2009, with ranks from 1."""

ALPHA = 0.8
"""Near the best over nine collections in Bruch, Gai and Ingber 2023, table 5."""

Doubles = NDArray[np.float64]


def min_max(scores: Floats, infimum: float) -> Doubles:
    """Scores between 0 and 1: 0 at the lowest that the scorer can give, 1 at the highest of these.

    The infimum is the scorer's, not the list's, so that a score does not change with the length of the
    list. All zeros if nothing exceeds the infimum.

    >>> min_max(np.array([2.0, 1.0, 0.0]), 0.0).tolist()
    [1.0, 0.5, 0.0]
    >>> min_max(np.array([0.0, 0.0]), 0.0).tolist()
    [0.0, 0.0]
    >>> min_max(np.array([0.0, -1.0]), -1.0).tolist()
    [1.0, 0.0]
    """
    shifted = np.asarray(scores, dtype=np.float64) - infimum
    span = shifted.max(initial=0.0)
    return shifted / span if span > 0 else np.zeros_like(shifted)


def convex_combination(dense: Floats, bm25: Floats, *, alpha: float = ALPHA) -> Doubles:
    """TM2C2: alpha · φ(cosine) + (1 - alpha) · φ(BM25), with the infima -1 and 0.

    The arrays are parallel: every candidate is scored by both. Where no candidate has a lexical score the
    dense one decides alone. Bruch, Gai and Ingber 2023, https://arxiv.org/abs/2210.11934, equation 5.

    >>> convex_combination(np.array([1.0, 0.0]), np.array([0.0, 8.0]), alpha=0.5).tolist()
    [0.5, 0.75]
    >>> convex_combination(np.array([1.0, 0.0]), np.array([0.0, 0.0])).tolist()
    [1.0, 0.5]
    """
    lexical = min_max(bm25, 0.0)
    if not lexical.any():
        return min_max(dense, -1.0)
    return alpha * min_max(dense, -1.0) + (1 - alpha) * lexical


def reciprocal_rank_fusion(
    rankings: Sequence[Ids], *, k: int = RRF_K, weights: Sequence[float] | None = None
) -> tuple[Ids, Doubles]:
    """Every id of the rankings once, sorted by id, and its sum of weight / (k + rank).

    Each ranking has distinct ids, best first; an id missing from one adds nothing there. A weight is 1 where
    none is given. Cormack, Clarke and Büttcher 2009, https://doi.org/10.1145/1571941.1572114.

    >>> ids, scores = reciprocal_rank_fusion([np.array([7, 5]), np.array([5])], k=1)
    >>> ids.tolist(), [round(score, 4) for score in scores.tolist()]
    ([5, 7], [0.8333, 0.5])
    """
    ids = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *rankings]))
    terms = np.zeros((len(ids), len(rankings)))
    for column, ranking in enumerate(rankings):
        weight = 1.0 if weights is None else weights[column]
        terms[np.searchsorted(ids, ranking), column] = weight / (k + 1 + np.arange(len(ranking)))
    # Adding a row's terms from the smallest up makes the sum independent of the order of the rankings.
    return ids, np.sort(terms, axis=1).sum(axis=1)
