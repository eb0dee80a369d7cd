"""How well scores order the candidates of queries that were held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

from indexing.types import Floats
from retrievers.training.examples import Example

Scorer = Callable[[Example], Floats]
"""The scores of an example's candidates, in their order, higher is better."""

K = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Mean nDCG@10 of the candidates' order over the held-out queries of a collection."""

    n_queries: int
    fused: float
    before: float
    after: float


def ndcg(example: Example, scores: Floats, k: int = K) -> float:
    """nDCG@k of the candidates in the order of the scores, ties as they stand; the gain is the grade.

    Järvelin and Kekäläinen 2002. The ideal order is that of the candidates, not of the whole collection.

    >>> one = Example(collection="", query="", texts=("a", "b"), grades=(1, 0), teacher=(0.0, 0.0))
    >>> round(ndcg(one, np.array([0.1, 0.9])), 4)
    0.6309
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    gains = [example.grades[place] for place in order]
    return _dcg(gains, k) / _dcg(sorted(example.grades, reverse=True), k)


def _dcg(gains: Sequence[int], k: int) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains[:k], start=1))


def teacher_scores(example: Example) -> Floats:
    """The fused scores, which the others are compared with."""
    return np.array(example.teacher, np.float32)


def means(examples: Iterable[Example], scorer: Scorer) -> dict[str, list[float]]:
    """nDCG@10 of each example, by collection."""
    values: dict[str, list[float]] = {}
    for example in examples:
        values.setdefault(example.collection, []).append(ndcg(example, scorer(example)))
    return values


def measured(
    before: Mapping[str, list[float]], after: Mapping[str, list[float]], fused: Mapping[str, list[float]]
) -> dict[str, Measured]:
    """One line for each collection."""
    return {
        name: Measured(
            n_queries=len(values),
            fused=float(np.mean(fused[name])),
            before=float(np.mean(before[name])),
            after=float(np.mean(values)),
        )
        for name, values in after.items()
    }
