"""Fusion of rankings: one score out of several, as pure functions.

`fuse` takes any number of lists. What a list adds to a score is its weight times a value between 0 and 1
(with `dbsf` about so). An id that is not in a list gets nothing from it. The order of the lists is of no
account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from indexing.types import Floats, Ids

RRF_K = 60
"""Cormack, Clarke and Büttcher 2009, with ranks from 1."""

ALPHA = 0.8
"""Near the best over nine collections in Bruch, Gai and Ingber 2023, table 5."""

Doubles = NDArray[np.float64]
Method = Literal["rrf", "weighted_rrf", "convex", "min_max", "dbsf"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredList:
    """What one retriever found: distinct ids, best first, and their scores, which never rise.

    `infimum` is the lowest score that the retriever could give to any chunk for this query.
    """

    ids: Ids
    scores: Floats
    infimum: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """Every id once, rising, its score, and by list what that added to it: the shares sum to the score."""

    ids: Ids
    scores: Doubles
    shares: Mapping[str, Doubles]


def fuse(
    lists: Mapping[str, ScoredList],
    method: Method,
    *,
    weights: Mapping[str, float] | None = None,
    k: int = RRF_K,
) -> Fused:
    """One score for every id in the lists. A weight is 1 where none is given.

    With the methods that look at scores the weights are scaled to sum to 1 over the lists that have a say: an
    empty list has none, nor has, with `convex`, one in which nothing exceeds the infimum.

    >>> lists = {
    ...     "a": ScoredList(ids=np.array([7, 5]), scores=np.array([9.0, 3.0])),
    ...     "b": ScoredList(ids=np.array([5]), scores=np.array([0.5])),
    ... }
    >>> fused = fuse(lists, "min_max", weights={"a": 1, "b": 3})
    >>> fused.ids.tolist(), fused.scores.tolist(), fused.shares["a"].tolist()
    ([5, 7], [0.75, 0.25], [0.0, 0.25])
    """
    names = sorted(lists)
    ids = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(lists[name].ids for name in names)]))
    values = {name: _VALUES[method](lists[name], k) for name in names}
    scale = dict.fromkeys(names, 1.0) if weights is None else {name: weights.get(name, 1.0) for name in names}
    if method not in ("rrf", "weighted_rrf"):
        total = sum(scale[name] for name in names if values[name].any())
        scale = {name: weight / total if total else 0.0 for name, weight in scale.items()}
    terms = np.zeros((len(ids), len(names)))
    for column, name in enumerate(names):
        terms[np.searchsorted(ids, lists[name].ids), column] = scale[name] * values[name]
    return Fused(
        ids=ids,
        # Adding a row's terms from the smallest up makes the sum independent of what the lists are called.
        scores=np.sort(terms, axis=1).sum(axis=1),
        shares={name: terms[:, column] for column, name in enumerate(names)},
    )


def reciprocal_ranks(n_ids: int, k: int = RRF_K) -> Doubles:
    """1 / (k + rank) for ranks from 1.

    >>> reciprocal_ranks(2, k=1).tolist()
    [0.5, 0.3333333333333333]
    """
    return 1.0 / (k + 1 + np.arange(n_ids))


def list_min_max(scores: Floats) -> Doubles:
    """Scores between 0 at the lowest and 1 at the highest of the list; 1 for all where they are equal.

    The last of the list gets what a chunk gets that is not in it, and a longer list other values.

    >>> list_min_max(np.array([4.0, 3.0, 2.0])).tolist(), list_min_max(np.array([4.0])).tolist()
    ([1.0, 0.5, 0.0], [1.0])
    """
    values = np.asarray(scores, dtype=np.float64)
    if not len(values):
        return values
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else np.ones_like(values)


def distribution_based(scores: Floats) -> Doubles:
    """Distribution-based score fusion: 0 at three standard deviations below the mean, 1 at three above.

    That is (z + 3) / 6 with the z-score of the list, so z-score fusion in which a chunk that is not in a list
    counts as three deviations below. One half for all where they are equal or there is but one. A score far
    off lies beyond 0 or 1; it is not cut, so that the order within a list is kept. Mazzeschi
    2023, "Distribution-based score fusion".

    >>> [round(value, 4) for value in distribution_based(np.array([3.0, 1.0])).tolist()]
    [0.6667, 0.3333]
    >>> distribution_based(np.array([7.0])).tolist()
    [0.5]
    """
    values = np.asarray(scores, dtype=np.float64)
    deviation = values.std() if len(values) else 0.0
    # Equal scores can have a deviation of a rounding error.
    if deviation <= 1e-9 * np.abs(values).max(initial=1.0):
        return np.full(len(values), 0.5)
    z: Doubles = (values - values.mean()) / deviation
    return (z + 3) / 6


def min_max(scores: Floats, infimum: float) -> Doubles:
    """Scores between 0 and 1: 0 at the lowest that the scorer can give, 1 at the highest of these.

    The infimum is the scorer's, not the list's, so that a score does not change with the length of the
    list; what lies below it counts as it. All zeros if nothing exceeds the infimum.

    >>> min_max(np.array([2.0, 1.0, 0.0]), 0.0).tolist()
    [1.0, 0.5, 0.0]
    >>> min_max(np.array([0.0, 0.0]), 0.0).tolist()
    [0.0, 0.0]
    >>> min_max(np.array([0.0, -1.0]), -1.0).tolist()
    [1.0, 0.0]
    """
    shifted = np.maximum(np.asarray(scores, dtype=np.float64) - infimum, 0.0)
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
    shares = convex_shares(dense, bm25, alpha=alpha)
    return shares["dense"] + shares["bm25"]


def convex_shares(dense: Floats, bm25: Floats, *, alpha: float = ALPHA) -> dict[str, Doubles]:
    """What each of the two adds to the convex combination.

    >>> shares = convex_shares(np.array([1.0, 0.0]), np.array([0.0, 8.0]), alpha=0.5)
    >>> shares["dense"].tolist(), shares["bm25"].tolist()
    ([0.5, 0.25], [0.0, 0.5])
    """
    lexical = min_max(bm25, 0.0)
    if not lexical.any():
        return {"dense": min_max(dense, -1.0), "bm25": lexical}
    return {"dense": alpha * min_max(dense, -1.0), "bm25": (1 - alpha) * lexical}


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
    lists = {
        str(number): ScoredList(ids=ranking, scores=np.zeros(len(ranking), dtype=np.float32))
        for number, ranking in enumerate(rankings)
    }
    scale = None if weights is None else {str(number): weight for number, weight in enumerate(weights)}
    fused = fuse(lists, "rrf", weights=scale, k=k)
    return fused.ids, fused.scores


_VALUES: Mapping[Method, Callable[[ScoredList, int], Doubles]] = {
    "rrf": lambda found, k: reciprocal_ranks(len(found.ids), k),
    "weighted_rrf": lambda found, k: reciprocal_ranks(len(found.ids), k),
    "convex": lambda found, _k: min_max(found.scores, found.infimum),
    "min_max": lambda found, _k: list_min_max(found.scores),
    "dbsf": lambda found, _k: distribution_based(found.scores),
}
