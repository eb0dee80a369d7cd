"""Fusion by hand-made numbers, naive second implementations, and properties."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrievers.fusion import convex_combination, min_max, reciprocal_rank_fusion

rankings = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), min_size=1, max_size=4)
scores = st.lists(st.floats(0, 50, width=32), min_size=1, max_size=20)


@settings(deadline=None)
@given(rankings, st.integers(1, 100))
def test_rrf_is_the_sum_of_reciprocal_ranks(lists: list[list[int]], k: int) -> None:
    ids, fused = reciprocal_rank_fusion([np.array(ranking, dtype=np.int64) for ranking in lists], k=k)
    expected: dict[int, Fraction] = {}
    for ranking in lists:
        for rank, chunk_id in enumerate(ranking, start=1):
            expected[chunk_id] = expected.get(chunk_id, Fraction(0)) + Fraction(1, k + rank)
    assert ids.tolist() == sorted(expected)
    assert fused.tolist() == pytest.approx([float(expected[chunk_id]) for chunk_id in ids.tolist()])


@settings(deadline=None)
@given(rankings, st.randoms())
def test_rrf_ignores_the_order_of_the_lists(lists: list[list[int]], random: object) -> None:
    arrays = [np.array(ranking, dtype=np.int64) for ranking in lists]
    shuffled = sorted(arrays, key=lambda _: random.random())  # type: ignore[attr-defined]
    one, other = reciprocal_rank_fusion(arrays), reciprocal_rank_fusion(shuffled)
    assert one[0].tolist() == other[0].tolist()
    assert one[1].tolist() == other[1].tolist()


@settings(deadline=None)
@given(scores, st.floats(0, 1))
def test_convex_lies_between_zero_and_one(bm25: list[float], alpha: float) -> None:
    dense = np.linspace(-1, 1, len(bm25))
    fused = convex_combination(dense, np.array(bm25), alpha=alpha)
    assert np.all((fused >= 0) & (fused <= 1 + 1e-12))


@settings(deadline=None)
@given(scores)
def test_without_lexical_scores_dense_decides(bm25: list[float]) -> None:
    dense = np.array(bm25) / 50
    fused = convex_combination(dense, np.zeros(len(bm25)), alpha=0.3)
    assert (np.diff(fused[np.argsort(dense)]) >= 0).all()


def test_the_ends_of_alpha_are_the_single_systems() -> None:
    dense, bm25 = np.array([0.9, 0.5, 0.1]), np.array([1.0, 2.0, 4.0])
    assert convex_combination(dense, bm25, alpha=1).tolist() == min_max(dense, -1).tolist()
    assert convex_combination(dense, bm25, alpha=0).tolist() == [0.25, 0.5, 1]


def test_nothing_to_fuse() -> None:
    empty = np.empty(0)
    assert convex_combination(empty, empty).tolist() == []
    assert reciprocal_rank_fusion([])[0].tolist() == []
    assert min_max(np.full(3, -1.0), -1).tolist() == [0, 0, 0]
