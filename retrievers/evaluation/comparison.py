"""Systems beside a baseline: on each collection, and over collections of which each counts the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from retrievers.evaluation.significance import (
    N_RESAMPLES,
    Comparison,
    Doubles,
    bootstrap_interval,
    compare,
    permutation_p_value,
)

if TYPE_CHECKING:
    from retrievers.evaluation.evaluation import EvaluationResult

METRIC = "ndcg@10"
MEAN = "mean"
"""What the mean over collections is called where the name of a collection stands."""

_DRAWS_A_BATCH = 500

Values = Mapping[str, Mapping[str, float]]
"""Collection → query id → value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A mode on a collection: the mean with its 95 % interval, and the comparison with the baseline.

    The comparison is None for the baseline itself, and where the baseline was not measured on the same.
    """

    dataset: str
    mode: str
    value: float
    low: float
    high: float
    versus: Comparison | None


def standings(
    results: Sequence[EvaluationResult], baseline: str | None, metric: str = METRIC
) -> list[Standing]:
    """Every mode on every collection in the order of the results, then the modes over all collections.

    The mean over collections is there for modes that were measured on all of them, if there are several.
    """
    values = _by_mode(results, metric)
    datasets = list(dict.fromkeys(result.dataset for result in results))
    found = [
        _standing(
            result.dataset,
            result.mode,
            {result.dataset: values[result.mode][result.dataset]},
            _only(values.get(baseline or ""), [result.dataset]),
        )
        for result in results
    ]
    if len(datasets) > 1:
        everywhere = [mode for mode in values if len(values[mode]) == len(datasets)]
        found += [
            _standing(MEAN, mode, values[mode], _only(values.get(baseline or ""), datasets))
            for mode in everywhere
        ]
    return found


def compare_over_collections(first: Values, second: Values, *, seed: int = 0) -> Comparison:
    """Second minus first where each collection counts the same, however many queries it has.

    The sign of each query's difference is flipped in the permutation test, each difference weighed by one
    over the number of queries of its collection; the bootstrap draws queries anew within each collection.
    Raises ValueError where collections or queries differ.
    """
    if first.keys() != second.keys() or not first:
        raise ValueError("Both systems must have been measured on the same collections, at least one.")
    if len(first) == 1:
        (name,) = first
        return compare(first[name], second[name], seed=seed)
    differences = [_differences(first[name], second[name]) for name in sorted(first)]
    n_queries = sum(map(len, differences))
    weighed = np.concatenate([part * (n_queries / len(part) / len(differences)) for part in differences])
    low, high = _interval_over_collections(differences, seed)
    return Comparison(
        difference=float(np.mean([part.mean() for part in differences])),
        low=low,
        high=high,
        p_value=permutation_p_value(weighed.tolist(), seed=seed),
        n_queries=n_queries,
    )


def _standing(dataset: str, mode: str, values: Values, baseline: Values | None) -> Standing:
    parts = [np.array(list(queries.values())) for queries in values.values()]
    low, high = _interval_over_collections(parts, 0)
    return Standing(
        dataset=dataset,
        mode=mode,
        value=float(np.mean([part.mean() for part in parts])),
        low=low,
        high=high,
        versus=compare_over_collections(baseline, values) if _can_compare(baseline, values) else None,
    )


def _can_compare(baseline: Values | None, values: Values) -> TypeGuard[Values]:
    """Whether there is a baseline, it is another system, and it was asked the same queries."""
    if baseline is None or all(baseline[name] is values[name] for name in values):
        return False
    return all(baseline[name].keys() == values[name].keys() for name in values)


def _interval_over_collections(parts: Sequence[Doubles], seed: int) -> tuple[float, float]:
    """The bootstrap interval of the mean of the collections' means."""
    if len(parts) == 1:
        return bootstrap_interval(parts[0].tolist(), seed=seed)
    random = np.random.default_rng(seed)
    means = np.mean([_resampled_means(part, random) for part in parts], axis=0)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _resampled_means(part: Doubles, random: np.random.Generator) -> Doubles:
    means = []
    for _ in range(N_RESAMPLES // _DRAWS_A_BATCH):  # in batches: all at once would be a large matrix
        drawn = random.integers(0, len(part), size=(_DRAWS_A_BATCH, len(part)))
        means.append(part[drawn].mean(axis=1))
    return np.concatenate(means)


def _differences(first: Mapping[str, float], second: Mapping[str, float]) -> Doubles:
    if first.keys() != second.keys() or not first:
        raise ValueError("Both systems must have a value for the same queries, at least one.")
    return np.array([second[query_id] - first[query_id] for query_id in sorted(first)])


def _by_mode(results: Sequence[EvaluationResult], metric: str) -> dict[str, dict[str, Mapping[str, float]]]:
    values: dict[str, dict[str, Mapping[str, float]]] = {}
    for result in results:
        values.setdefault(result.mode, {})[result.dataset] = result.per_query[metric]
    return values


def _only(values: Values | None, datasets: Sequence[str]) -> Values | None:
    """The baseline on these collections; None where it lacks one of them."""
    if values is None or not all(name in values for name in datasets):
        return None
    return {name: values[name] for name in datasets}
