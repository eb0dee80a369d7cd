"""Modes beside a baseline: intervals, significance, the mean over collections, and how it is written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from indexing.encoding.fake import WordEncoder
from retrievers.evaluation.comparison import MEAN, compare_over_collections, standings
from retrievers.evaluation.evaluation import EvaluationResult, evaluate
from retrievers.evaluation.report import Report, mean_metrics
from retrievers.evaluation.significance import compare
from retrievers.evaluation.system import System
from retrievers.fused import FusionSpec
from tests.unit.retrievers_evaluation.collections import write_collection

RANDOM = np.random.default_rng(5)
SMALL = {f"q{i}": float(value) for i, value in enumerate(RANDOM.random(20))}
LARGE = {f"q{i}": float(value) for i, value in enumerate(RANDOM.random(300))}


def result(dataset: str, mode: str, values: dict[str, float]) -> EvaluationResult:
    names = ("ndcg@10", "recall@10", "recall@100", "mrr@10")
    fields: dict[str, Any] = {
        "n_documents": 5,
        "chunk_seconds": 0.0,
        "encode_seconds": 0.0,
        "index_seconds": 0.0,
    }
    return EvaluationResult(
        dataset=dataset,
        split="test",
        mode=mode,
        metrics=dict.fromkeys(names, float(np.mean(list(values.values())))),
        latency_ms={"p50": 1.0, "p95": 2.0, "p99": 3.0, "mean": 1.0},
        n_queries=len(values),
        n_chunks=7,
        bytes_per_chunk={"vectors": 768.0, "total": 800.0},
        settings={},
        per_query=dict.fromkeys(names, values),
        run={},
        **fields,
    )


def shifted(values: dict[str, float], by: float) -> dict[str, float]:
    return {name: value + by for name, value in values.items()}


def four_results() -> list[EvaluationResult]:
    return [
        result("small", "bm25", SMALL),
        result("small", "dense", shifted(SMALL, 0.1)),
        result("large", "bm25", LARGE),
        result("large", "dense", shifted(LARGE, -0.05)),
    ]


def test_each_collection_counts_the_same_in_the_mean() -> None:
    found = {(item.dataset, item.mode): item for item in standings(four_results(), "bm25")}
    assert list(found) == [
        ("small", "bm25"),
        ("small", "dense"),
        ("large", "bm25"),
        ("large", "dense"),
        (MEAN, "bm25"),
        (MEAN, "dense"),
    ]
    mean = found[MEAN, "dense"]
    assert mean.value == pytest.approx((found["small", "dense"].value + found["large", "dense"].value) / 2)
    assert mean.versus is not None
    assert mean.versus.difference == pytest.approx(0.025)
    assert found[MEAN, "bm25"].versus is None
    one = found["small", "dense"].versus
    assert one == compare(SMALL, shifted(SMALL, 0.1))
    assert all(item.low <= item.value <= item.high for item in found.values())


def test_noise_is_not_significant_and_a_shift_is() -> None:
    noise = {name: value + float(RANDOM.normal(0, 0.3)) for name, value in LARGE.items()}
    both = {"a": SMALL, "b": LARGE}
    assert compare_over_collections(both, {"a": SMALL, "b": noise}).p_value > 0.05
    clear = compare_over_collections(both, {"a": shifted(SMALL, 0.1), "b": shifted(noise, 0.1)})
    assert clear.p_value < 0.05
    assert clear.low > 0


def test_over_collections_the_interval_is_that_of_the_normal_approximation() -> None:
    second = {
        "a": {n: float(RANDOM.random()) for n in SMALL},
        "b": {n: float(RANDOM.random()) for n in LARGE},
    }
    found = compare_over_collections({"a": SMALL, "b": LARGE}, second)
    differences = [
        np.array([second[k][n] - v for n, v in one.items()]) for k, one in (("a", SMALL), ("b", LARGE))
    ]
    error = np.sqrt(sum(part.var() / len(part) for part in differences)) / 2
    assert found.low == pytest.approx(found.difference - 1.96 * error, abs=0.01)
    assert found.high == pytest.approx(found.difference + 1.96 * error, abs=0.01)


def test_what_was_measured_on_other_queries_is_not_compared() -> None:
    results = [result("small", "bm25", SMALL), result("small", "dense", {"q1": 1.0})]
    assert [item.versus for item in standings(results, "bm25")] == [None, None]
    assert [item.versus for item in standings(four_results(), None)] == [None] * 6
    with pytest.raises(ValueError, match="same collections"):
        compare_over_collections({"a": SMALL}, {"b": SMALL})


def test_a_mode_that_lacks_a_collection_has_no_mean() -> None:
    results = [*four_results(), result("small", "rrf", SMALL)]
    assert "rrf" not in mean_metrics(results)
    assert [item.mode for item in standings(results, "bm25") if item.dataset == MEAN] == ["bm25", "dense"]
    assert mean_metrics(results[:2]) == {}


def test_a_report_is_saved_as_json_markdown_and_plot(tmp_path: Path) -> None:
    report = Report(results=four_results(), baseline="bm25", command="footnote eval small large")
    report.save(tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(one["dataset"], one["mode"]) for one in kept["results"]][:2] == [
        ("small", "bm25"),
        ("small", "dense"),
    ]
    assert {"ndcg@10", "recall@100"} <= set(kept["results"][0]["metrics"])
    assert kept["comparison"]["standings"][1]["versus"]["difference"] == pytest.approx(0.1)
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| mode | small | large | mean | difference from bm25 |" in text
    assert f"**{np.mean(list(SMALL.values())) + 0.1:.3f}***" in text
    assert "footnote eval small large" in text
    drawing = ElementTree.fromstring((tmp_path / "out" / "plot.svg").read_text())
    assert len(drawing.findall("{*}circle")) == 6
    assert {"small", "large", "mean", "bm25", "dense"} <= {node.text for node in drawing.findall("{*}text")}


def test_names_cannot_break_the_plot(tmp_path: Path) -> None:
    report = Report(results=[result("a<b", 'x"&', SMALL)])
    report.save(tmp_path)
    drawing = ElementTree.fromstring((tmp_path / "plot.svg").read_text())
    assert "a<b" in {node.text for node in drawing.findall("{*}text")}


def test_a_fusion_is_measured_under_its_own_name_and_bytes_are_counted(tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "fruit")
    spec = FusionSpec(method="dbsf", weights={"dense": 2})
    found = evaluate(
        folder, System(mode="fused", fusion=spec), encoder=WordEncoder(), work_dir=tmp_path / "work"
    )
    assert found.mode == "dbsf(bm25,dense*2)"
    assert found.run["q1"][0][0] == "d1"
    sizes = dict(found.bytes_per_chunk)
    files = [
        path
        for path in (tmp_path / "work").rglob("*")
        if path.parent.name.startswith("seg") and path.is_file()
    ]
    assert sizes.pop("total") == pytest.approx(sum(path.stat().st_size for path in files) / found.n_chunks)
    assert {"vectors", "postings"} <= set(sizes)
