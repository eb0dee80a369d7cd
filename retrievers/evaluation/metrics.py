"""Metrics of a run against judgments, computed by ir-measures with the conventions of trec_eval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retrievers.evaluation.beir import Qrels
from retrievers.evaluation.errors import EvaluationError
from retrievers.evaluation.runs import Run

METRICS: Mapping[str, str] = {
    "ndcg@10": "nDCG@10",
    "recall@10": "R@10",
    "recall@100": "R@100",
    "mrr@10": "RR@10",
}
"""Our names and those of ir-measures. The gain of nDCG is the grade; the others count grades from 1 up."""

PerQuery = Mapping[str, Mapping[str, float]]
"""Metric → query id → value."""


def score_run(qrels: Qrels, run: Run) -> PerQuery:
    """Every metric for every judged query, in the order of the judgments; a query without results has 0.

    Raises EvaluationError if ir-measures is not installed.
    """
    measures = _measures()
    judgments = {query_id: dict(grades) for query_id, grades in qrels.items()}
    # Ranks as scores: trec_eval would order ties of the score in its own way.
    results = {
        query_id: {document_id: float(-rank) for rank, (document_id, _) in enumerate(ranking)}
        for query_id, ranking in run.items()
        if ranking and query_id in qrels
    }
    values = {name: dict.fromkeys(qrels, 0.0) for name in METRICS}
    names = {measures.parse_measure(theirs): ours for ours, theirs in METRICS.items()}
    if results:
        for value in measures.iter_calc(list(names), judgments, results):
            values[names[value.measure]][value.query_id] = float(value.value)
    return values


def mean_metrics(values: PerQuery) -> dict[str, float]:
    """The mean of each metric over all judged queries.

    >>> mean_metrics({"mrr@10": {"a": 1.0, "b": 0.0}})
    {'mrr@10': 0.5}
    """
    return {name: sum(queries.values()) / len(queries) for name, queries in values.items()}


def _measures() -> Any:
    try:
        import ir_measures
    except ImportError as exc:
        raise EvaluationError(
            'Evaluation needs the package ir-measures: run `pip install "footnote[eval]"`.'
        ) from exc
    return ir_measures
