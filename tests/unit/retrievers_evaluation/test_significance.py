"""Tests of significance against cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from retrievers.evaluation.significance import bootstrap_interval, compare, permutation_p_value


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([0.2], 1.0),
        ([0.1, 0.3], 0.5),
        ([1, 1, 1, 1], 2 / 16),
        ([-1, -1, -1, -1], 2 / 16),
        # Sums of (±1 ±2 ±3) at least 4 away from zero: 6, -6, 4 twice counted by sign: 4, -4.
        ([-1, 2, 3], 4 / 8),
        ([0, 0, 0], 1.0),
        ([1, -1], 1.0),
    ],
)
def test_exact_p_value(differences: list[float], p_value: float) -> None:
    assert permutation_p_value(differences) == pytest.approx(p_value)


def test_rounding_does_not_part_equal_sums() -> None:
    assert permutation_p_value([0.1, 0.2, 0.3, -0.6]) == 1.0


def test_sampled_p_value_is_near_the_exact_one() -> None:
    differences = [0.3, -0.1, 0.4, 0.2, -0.2, 0.1, 0.25, -0.05, 0.15, 0.3, -0.3, 0.1, 0.05]
    exact = permutation_p_value(differences)
    sampled = permutation_p_value([*differences, 0.0])
    assert sampled == pytest.approx(exact, abs=0.02)


def test_large_consistent_difference_is_significant_and_noise_is_not() -> None:
    random = np.random.default_rng(3)
    assert permutation_p_value((random.normal(0.3, 0.1, 100)).tolist()) < 0.001
    balanced = np.concatenate([np.full(50, 0.1), np.full(50, -0.1)])
    assert permutation_p_value(balanced.tolist()) > 0.9


def test_bootstrap_interval_agrees_with_the_normal_one() -> None:
    values = np.random.default_rng(5).normal(2.0, 1.0, 400)
    low, high = bootstrap_interval(values.tolist())
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_same_seed_same_numbers() -> None:
    values = np.random.default_rng(1).normal(size=40).tolist()
    assert bootstrap_interval(values, seed=7) == bootstrap_interval(values, seed=7)
    assert permutation_p_value(values, seed=7) == permutation_p_value(values, seed=7)
    assert bootstrap_interval(values, seed=7) != bootstrap_interval(values, seed=8)


def test_compare() -> None:
    first = {f"q{number}": 0.2 for number in range(20)}
    second = {f"q{number}": 0.2 + 0.01 * number for number in range(20)}
    result = compare(first, second)
    assert result.difference == pytest.approx(0.095)
    assert 0 < result.low < result.difference < result.high
    assert result.p_value < 0.01
    assert result.n_queries == 20
    assert compare(second, first).difference == pytest.approx(-0.095)


@pytest.mark.parametrize(("first", "second"), [({}, {}), ({"a": 1.0}, {"b": 1.0})])
def test_compare_refuses_other_queries(first: dict[str, float], second: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="same queries"):
        compare(first, second)
