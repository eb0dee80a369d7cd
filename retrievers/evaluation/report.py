"""A comparison written down: `to_json` for programs, `to_markdown` for people, `save` for both and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrievers.evaluation.comparison import METRIC, Standing, standings
from retrievers.evaluation.plot import plot

if TYPE_CHECKING:
    from retrievers.evaluation.evaluation import EvaluationResult

METRICS = ("ndcg@10", "recall@10", "recall@100", "mrr@10")
SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class Report:
    """Results beside a baseline; `command` is what they were made with."""

    results: Sequence[EvaluationResult]
    baseline: str | None = None
    metric: str = METRIC
    command: str | None = None

    @cached_property
    def standings(self) -> list[Standing]:
        return standings(self.results, self.baseline, self.metric)

    def to_json(self) -> dict[str, Any]:
        """The results as they are, and what is said of them."""
        return {
            "results": [result.to_json() for result in self.results],
            "comparison": {
                "metric": self.metric,
                "baseline": self.baseline,
                "standings": [asdict(standing) for standing in self.standings],
            },
        }

    def to_markdown(self) -> str:
        lines = [f"The metric is {self.metric}, with its 95 % interval by bootstrap over the queries."]
        if self.baseline is not None:
            lines.append(
                f"The sign * marks a difference from `{self.baseline}` that is significant by a paired "
                f"permutation test (p < {SIGNIFICANT}); the best of each column is bold."
            )
        lines += ["", *self._overview(), "", *self._details()]
        if self.command is not None:
            lines += ["", "```", self.command, "```"]
        return "\n".join(lines) + "\n"

    def save(self, folder: Path) -> None:
        """Writes results.json, results.md and plot.svg into the folder. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=2) + "\n"
        (folder / "results.json").write_text(text, "utf-8")
        (folder / "results.md").write_text(self.to_markdown(), "utf-8")
        (folder / "plot.svg").write_text(plot(self.standings, self.metric, self.baseline), "utf-8")

    def _overview(self) -> list[str]:
        """Modes by collections."""
        cells: dict[str, dict[str, Standing]] = {}
        for item in self.standings:
            cells.setdefault(item.mode, {})[item.dataset] = item
        datasets = list(dict.fromkeys(item.dataset for item in self.standings))
        best = {name: max(row[name].value for row in cells.values() if name in row) for name in datasets}
        last = [f"difference from {self.baseline}"] if self.baseline is not None else []
        head = ["mode", *datasets, *last]
        rows = [
            [
                f"`{mode}`",
                *(_cell(row.get(name), best[name]) for name in datasets),
                *([_difference(row.get(datasets[-1]))] if last else []),
            ]
            for mode, row in cells.items()
        ]
        return _table(head, rows)

    def _details(self) -> list[str]:
        """Every metric, latency and size, a line for each collection and mode."""
        head = ["collection", "mode", *METRICS, "p50 ms", "p95 ms", "bytes/chunk", "queries", "chunks"]
        rows = [
            [
                result.dataset,
                f"`{result.mode}`",
                *(f"{result.metrics[name]:.3f}" for name in METRICS),
                f"{result.latency_ms['p50']:.1f}",
                f"{result.latency_ms['p95']:.1f}",
                f"{result.bytes_per_chunk.get('total', 0):.0f}",
                str(result.n_queries),
                str(result.n_chunks),
            ]
            for result in self.results
        ]
        return _table(head, rows)


def mean_metrics(results: Sequence[EvaluationResult]) -> Mapping[str, Mapping[str, float]]:
    """The mean of each metric over the collections, of modes measured on all; none where there is but one."""
    datasets = {result.dataset for result in results}
    by_mode: dict[str, list[EvaluationResult]] = {}
    for result in results:
        by_mode.setdefault(result.mode, []).append(result)
    if len(datasets) < 2:
        return {}
    return {
        mode: {name: sum(one.metrics[name] for one in own) / len(own) for name in METRICS}
        for mode, own in by_mode.items()
        if len(own) == len(datasets)
    }


def _cell(item: Standing | None, best: float) -> str:
    if item is None:
        return "–"
    text = f"{item.value:.3f}"
    if item.value == best:
        text = f"**{text}**"
    if item.versus is not None and item.versus.p_value < SIGNIFICANT:
        text += "*"
    return text


def _difference(item: Standing | None) -> str:
    if item is None or item.versus is None:
        return "–"
    versus = item.versus
    return f"{versus.difference:+.3f} ({versus.low:+.3f} to {versus.high:+.3f}, p = {versus.p_value:.3f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
