"""Fusion by hand-made numbers, naive second implementations, and properties."""

from __future__ import annotations

import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrievers.fusion import (
    METHODS,
    Method,
    ScoredList,
    convex_combination,
    fuse,
    min_max,
    reciprocal_rank_fusion,
)

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


names = st.sampled_from(("bm25", "dense", "late", "tree"))
score_lists = st.dictionaries(
    names,
    st.lists(
        st.tuples(st.integers(0, 30), st.floats(-1, 50, width=32)),
        unique_by=lambda pair: pair[0],
        max_size=15,
    ),
    min_size=1,
)


def scored(pairs: list[tuple[int, float]], infimum: float = -1.0) -> ScoredList:
    ordered = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return ScoredList(
        ids=np.array([chunk_id for chunk_id, _ in ordered], dtype=np.int64),
        scores=np.array([score for _, score in ordered], dtype=np.float32),
        infimum=infimum,
    )


def naive_value(method: str, pairs: list[tuple[int, float]], chunk_id: int, k: int) -> float:
    """What one list says of one chunk, by the formula of the method."""
    given_scores = dict(pairs)
    if chunk_id not in given_scores:
        return 0.0
    score, all_scores = given_scores[chunk_id], [value for _, value in pairs]
    if method in ("rrf", "weighted_rrf"):
        ordered = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
        return 1 / (k + 1 + [other for other, _ in ordered].index(chunk_id))
    if method == "convex":
        return (score + 1) / (max(all_scores) + 1) if max(all_scores) > -1 else 0.0
    if method == "min_max":
        low, high = min(all_scores), max(all_scores)
        return (score - low) / (high - low) if high > low else 1.0
    mean, deviation = statistics.fmean(all_scores), statistics.pstdev(all_scores)
    if deviation <= 1e-9 * max(1.0, *map(abs, all_scores)):
        return 0.5
    return (score - (mean - 3 * deviation)) / (6 * deviation)


@settings(deadline=None, max_examples=60)
@given(score_lists, st.dictionaries(names, st.floats(0.1, 4)), st.sampled_from(METHODS))
def test_any_fusion_is_its_formula_chunk_by_chunk(
    lists: dict[str, list[tuple[int, float]]], weights: dict[str, float], method: Method
) -> None:
    fused = fuse({name: scored(pairs) for name, pairs in lists.items()}, method, weights=weights, k=7)
    ids = sorted({chunk_id for pairs in lists.values() for chunk_id, _ in pairs})
    assert fused.ids.tolist() == ids
    values = {
        name: {chunk_id: naive_value(method, pairs, chunk_id, 7) for chunk_id in ids}
        for name, pairs in lists.items()
    }
    total = 1.0
    if method not in ("rrf", "weighted_rrf"):
        total = sum(weights.get(name, 1.0) for name in lists if any(values[name].values()))
    for place, chunk_id in enumerate(ids):
        expected = sum(weights.get(name, 1.0) * values[name][chunk_id] for name in lists)
        assert fused.scores[place] == pytest.approx(expected / (total or 1.0), rel=1e-5, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(score_lists, st.sampled_from(METHODS), st.randoms())
def test_the_order_of_lists_is_of_no_account_and_shares_sum_to_the_score(
    lists: dict[str, list[tuple[int, float]]], method: Method, random: object
) -> None:
    given_lists = {name: scored(pairs) for name, pairs in lists.items()}
    shuffled = sorted(given_lists, key=lambda _: random.random())  # type: ignore[attr-defined]
    one, other = fuse(given_lists, method), fuse({name: given_lists[name] for name in shuffled}, method)
    assert one.ids.tolist() == other.ids.tolist()
    assert one.scores.tolist() == other.scores.tolist()
    assert np.sum(list(one.shares.values()), axis=0).tolist() == pytest.approx(one.scores.tolist())


def test_two_lists_by_convex_are_the_convex_combination() -> None:
    dense, bm25 = np.array([0.9, 0.5, -0.2]), np.array([0.0, 2.0, 4.0])
    fused = fuse(
        {
            "dense": scored([(1, 0.9), (2, 0.5), (3, -0.2)], -1.0),
            "bm25": scored([(1, 0), (2, 2), (3, 4)], 0.0),
        },
        "convex",
        weights={"dense": 0.8, "bm25": 0.2},
    )
    assert fused.scores.tolist() == pytest.approx(convex_combination(dense, bm25).tolist(), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_list_changes_no_order_and_a_single_hit_divides_by_nothing(method: Method) -> None:
    alone = fuse({"a": scored([(1, 5.0), (2, 3.0)])}, method)
    beside = fuse({"a": scored([(1, 5.0), (2, 3.0)]), "b": scored([])}, method)
    assert beside.scores.tolist() == alone.scores.tolist()
    single = fuse({"a": scored([(1, 5.0)])}, method, k=1)
    assert single.scores.tolist() == pytest.approx(
        [{"rrf": 0.5, "weighted_rrf": 0.5, "dbsf": 0.5}.get(method, 1.0)]
    )
    assert fuse({"a": scored([])}, method).scores.tolist() == []
