"""How sure a difference between two systems is, from their values query by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

N_RESAMPLES = 10_000
_EXACT_UP_TO = 13
_RESAMPLES_A_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`difference` is the mean of second minus first over `n_queries`; [low, high] is its 95 % interval."""

    difference: float
    low: float
    high: float
    p_value: float
    n_queries: int


def compare(first: Mapping[str, float], second: Mapping[str, float], *, seed: int = 0) -> Comparison:
    """Compares two systems on the same queries; raises ValueError if the queries differ or there are none."""
    if first.keys() != second.keys() or not first:
        raise ValueError("Both systems must have a value for the same queries, at least one.")
    differences = np.array([second[query_id] - first[query_id] for query_id in sorted(first)])
    low, high = bootstrap_interval(differences.tolist(), seed=seed)
    return Comparison(
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=permutation_p_value(differences.tolist(), seed=seed),
        n_queries=len(differences),
    )


def permutation_p_value(
    differences: Sequence[float], *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> float:
    """How often chance alone would give a mean difference at least as large, in either direction.

    Under the null hypothesis each difference is as likely with the other sign. All sign patterns are tried up
    to 13 differences, `n_resamples` random ones beyond, the observed one counted among them. Smucker, Allan
    and Carterette 2007, https://doi.org/10.1145/1321440.1321528.

    >>> permutation_p_value([1.0, 1.0, 1.0])
    0.25
    """
    values = np.asarray(differences, dtype=np.float64)
    n_values = len(values)
    # Sums equal but for rounding count as equal.
    observed = abs(values.sum()) * (1 - 1e-12) - 1e-12
    if n_values <= _EXACT_UP_TO:
        patterns = (np.arange(2**n_values)[:, None] >> np.arange(n_values)) & 1
        return float((np.abs((2 * patterns - 1) @ values) >= observed).mean())
    random = np.random.default_rng(seed)
    n_extreme = 1
    for size in _batches(n_resamples):
        signs = random.integers(0, 2, size=(size, n_values), dtype=np.int8) * 2.0 - 1.0
        n_extreme += int((np.abs(signs @ values) >= observed).sum())
    return n_extreme / (n_resamples + 1)


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = 0.95, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean. Efron and Tibshirani 1993, section 13.3.

    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    sample = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(seed)
    means: Doubles = np.concatenate(
        [
            sample[random.integers(0, len(sample), size=(size, len(sample)))].mean(axis=1)
            for size in _batches(n_resamples)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _batches(total: int) -> list[int]:
    whole, rest = divmod(total, _RESAMPLES_A_BATCH)
    return [_RESAMPLES_A_BATCH] * whole + ([rest] if rest else [])
