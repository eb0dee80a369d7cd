"""Metrics by hand, by a naive second implementation, and averaged over every judged query."""

from __future__ import annotations

import sys
from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrievers.evaluation.errors import EvaluationError
from retrievers.evaluation.metrics import mean_metrics, score_run


def ranking(*names: str) -> list[tuple[str, float]]:
    return [(name, 1.0 - place / 1000) for place, name in enumerate(names)]


def test_hand_case_with_grades() -> None:
    qrels = {"q": {"a": 3, "b": 1, "c": 2, "x": 0}}
    values = score_run(qrels, {"q": ranking("b", "x", "a")})
    gain = 1 / log2(2) + 3 / log2(4)
    ideal = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)
    assert values["ndcg@10"]["q"] == pytest.approx(gain / ideal)
    assert values["recall@10"]["q"] == pytest.approx(2 / 3)
    assert values["recall@100"]["q"] == pytest.approx(2 / 3)
    assert values["mrr@10"]["q"] == 1.0


def test_first_relevant_at_rank_four() -> None:
    values = score_run({"q": {"a": 1}}, {"q": ranking("w", "x", "y", "a")})
    assert values["mrr@10"]["q"] == 0.25
    assert values["ndcg@10"]["q"] == pytest.approx(1 / log2(5))


def test_ranks_beyond_the_cut_do_not_count() -> None:
    found = ranking(*(f"n{place}" for place in range(10)), "a")
    values = score_run({"q": {"a": 1}}, {"q": found})
    assert [values[name]["q"] for name in ("ndcg@10", "recall@10", "mrr@10", "recall@100")] == [0, 0, 0, 1]


def test_every_judged_query_counts() -> None:
    qrels = {"found": {"a": 1}, "empty": {"a": 1}, "absent": {"a": 1}, "no relevant": {"a": 0}}
    run = {"found": ranking("a"), "empty": [], "no relevant": ranking("a"), "not judged": ranking("a")}
    values = score_run(qrels, run)
    assert mean_metrics(values) == {"ndcg@10": 0.25, "recall@10": 0.25, "recall@100": 0.25, "mrr@10": 0.25}
    assert list(values["ndcg@10"]) == list(qrels)


def test_nothing_found_at_all() -> None:
    assert mean_metrics(score_run({"q": {"a": 1}}, {}))["ndcg@10"] == 0


def test_negative_grade_neither_helps_nor_harms() -> None:
    """As trec_eval has it: the gain of a grade below zero is zero."""
    values = score_run({"q": {"a": 1, "spam": -2}}, {"q": ranking("spam", "a")})
    assert values["ndcg@10"]["q"] == pytest.approx(1 / log2(3))
    assert values["mrr@10"]["q"] == 0.5


def test_order_of_the_ranking_counts_whatever_the_scores() -> None:
    tied = [("a", 0.5), ("z", 0.5)]
    assert score_run({"q": {"a": 1}}, {"q": tied})["mrr@10"]["q"] == 1.0
    assert score_run({"q": {"z": 1}}, {"q": tied})["mrr@10"]["q"] == 0.5


def naive(grades: dict[str, int], names: list[str]) -> dict[str, float]:
    relevant = {name for name, grade in grades.items() if grade > 0}

    def dcg(gains: list[int]) -> float:
        return sum(max(gain, 0) / log2(rank + 1) for rank, gain in enumerate(gains[:10], start=1))

    ideal = dcg(sorted(grades.values(), reverse=True))
    first = next((rank for rank, name in enumerate(names[:10], start=1) if name in relevant), None)
    return {
        "ndcg@10": dcg([grades.get(name, 0) for name in names]) / ideal if ideal else 0.0,
        "recall@10": len(relevant & set(names[:10])) / len(relevant) if relevant else 0.0,
        "recall@100": len(relevant & set(names[:100])) / len(relevant) if relevant else 0.0,
        "mrr@10": 1 / first if first else 0.0,
    }


NAMES = [f"d{number}" for number in range(30)]


@given(
    st.dictionaries(st.sampled_from(NAMES), st.integers(-1, 4), min_size=1),
    st.lists(st.sampled_from(NAMES), unique=True),
)
@settings(max_examples=60, deadline=None)
def test_agrees_with_plain_arithmetic(grades: dict[str, int], names: list[str]) -> None:
    values = score_run({"q": grades}, {"q": ranking(*names)})
    assert {name: queries["q"] for name, queries in values.items()} == pytest.approx(naive(grades, names))


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(EvaluationError, match=r"pip install \"footnote\[eval\]\""):
        score_run({"q": {"a": 1}}, {})
