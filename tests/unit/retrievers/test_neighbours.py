"""Smoothing of scores over like candidates, against loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.types import Floats
from retrievers.neighbours import Smoothing, smoothed
from tests.small_index import unit_vectors

SMOOTHING = Smoothing(n_neighbours=3, sharpness=2, own_weight=1.5, temperature=0.1)


def made_up(n: int, seed: int) -> tuple[np.ndarray, Floats]:
    random = np.random.default_rng(seed)
    return random.random(n), unit_vectors(n, 4, random)


def naive(scores: np.ndarray, vectors: Floats, smoothing: Smoothing) -> list[float]:
    results = []
    for i in range(len(scores)):
        cosines = {j: float(vectors[i] @ vectors[j]) for j in range(len(scores)) if j != i}
        nearest = sorted(cosines, key=lambda j: -cosines[j])[: smoothing.n_neighbours]
        weights = {j: max(0.0, cosines[j]) ** smoothing.sharpness for j in nearest}
        total = smoothing.own_weight * math.exp(scores[i] / smoothing.temperature)
        total += sum(w * math.exp(scores[j] / smoothing.temperature) for j, w in weights.items())
        mean = total / (smoothing.own_weight + sum(weights.values()))
        results.append(smoothing.temperature * math.log(mean))
    return results


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 12), seed=st.integers(0, 999), n_neighbours=st.integers(0, 15))
def test_it_is_the_loop(n: int, seed: int, n_neighbours: int) -> None:
    scores, vectors = made_up(n, seed)
    smoothing = replace(SMOOTHING, n_neighbours=n_neighbours)
    np.testing.assert_allclose(
        smoothed(scores, vectors, smoothing), naive(scores, vectors, smoothing), atol=1e-6
    )


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 30), seed=st.integers(0, 999), shift=st.floats(-1, 1))
def test_scores_stay_between_the_lowest_and_the_highest_and_move_together(
    n: int, seed: int, shift: float
) -> None:
    scores, vectors = made_up(n, seed)
    smooth = smoothed(scores, vectors, SMOOTHING)
    assert (smooth >= scores.min() - 1e-9).all()
    assert (smooth <= scores.max() + 1e-9).all()
    np.testing.assert_allclose(smoothed(scores + shift, vectors, SMOOTHING), smooth + shift, atol=1e-9)


def test_a_chunk_like_the_best_rises_and_one_like_none_keeps_its_score() -> None:
    vectors = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    best, like_it, alone, last = smoothed(np.array([0.9, 0.3, 0.4, 0.1]), vectors, SMOOTHING)
    assert best > like_it > alone > last
    assert (alone, last) == pytest.approx((0.4, 0.1))


def test_no_scores_and_no_neighbours() -> None:
    assert smoothed(np.empty(0), np.empty((0, 4), dtype=np.float32), SMOOTHING).shape == (0,)
    scores, vectors = made_up(5, 1)
    alone = smoothed(scores, vectors, replace(SMOOTHING, n_neighbours=0))
    np.testing.assert_allclose(alone, scores)


@pytest.mark.parametrize(
    "wrong", [{"n_neighbours": -1}, {"sharpness": 0}, {"own_weight": 0.0}, {"temperature": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"[Ss]moothing"):
        replace(SMOOTHING, **wrong)  # type: ignore[arg-type]
