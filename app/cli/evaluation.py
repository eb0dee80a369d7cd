"""`footnote eval`: retrieval quality on collections in BEIR layout."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

from app.cli.context import HomeOption, JsonOption, console, errors, print_json, read_settings, reported
from app.cli.fusing import FuseOption, FusionOption, WeightsOption, read_fusion
from app.cli.options import check_one_of
from app.cli.progress import progress
from app.cli.search import RerankOption, TransformOption
from app.encoders import EncoderPool, SparseEncoders
from app.language_model import language_model, needed
from app.nodes import trees
from app.search.rerankers import RERANKERS, RerankParts, reranker
from app.search.transformations import TRANSFORMATIONS, transformation
from app.services import encoder_spec, fitting_chunker
from app.settings import Settings
from app.versions.indexes import tuning_of
from indexing.encoding.base import Encoder
from indexing.encoding.sparse import SparseEncoder
from indexing.expansion_questions import QuestionWriter
from indexing.language_model import LanguageModel
from indexing.tree.summaries import LlmSummariser
from retrievers.base import Reranker
from retrievers.errors import ModeUnavailable
from retrievers.evaluation.system import Note, System
from retrievers.fused import FusionSpec
from retrievers.modes import MODES, Resources
from retrievers.types import Mode

if TYPE_CHECKING:
    from retrievers.evaluation.collection_index import Progress
    from retrievers.evaluation.evaluation import EvaluationResult
    from retrievers.evaluation.expansions import Questions
    from retrievers.evaluation.report import Report
    from retrievers.evaluation.tree import TreeMaking

METRICS = ("ndcg@10", "recall@10", "recall@100", "mrr@10")


def eval_command(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders in BEIR layout, plain or gzip.", exists=True, file_okay=False),
    ],
    mode: Annotated[
        list[str] | None, typer.Option("--mode", "-m", help="May be repeated, or `all`. [default: auto]")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="The qrels split. [default: test, else dev, else train]")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many queries.")] = None,
    rerank: RerankOption = None,
    transform: TransformOption = None,
    fuse: FuseOption = None,
    fusion: FusionOption = None,
    weights: WeightsOption = None,
    exclude_own_id: Annotated[
        bool,
        typer.Option(
            "--exclude-own-id", help="Leave out the text with a question's own id, where questions are texts."
        ),
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="The mode that others are compared with. [default: the first]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write results.json, results.md and plot.svg to this folder.", file_okay=False),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure nDCG@10, Recall@10 and @100, MRR@10 and latency, and compare modes.

    Each folder is indexed once, as ingested documents are, and kept under the data folder for the next time.
    Metrics are means over all judged queries; a query without results counts zero.

    With several modes, the differences from the baseline come with a 95 % interval and the p-value of a
    paired permutation test. A fusion of one's own is measured beside the modes.

    Example: footnote eval data/cranfield data/cisi --mode bm25 --mode hybrid --baseline bm25 --out results

    Example: footnote eval data/cisi --mode hybrid --fuse bm25,dense --fusion dbsf
    """
    from retrievers.evaluation.report import Report

    check_one_of(rerank, RERANKERS, "--rerank")
    check_one_of(transform, TRANSFORMATIONS, "--transform")
    settings = read_settings(home)
    systems = _systems(mode, settings.search.mode, read_fusion(None, fuse, fusion, weights))
    command = shlex.join(["footnote", *sys.argv[1:]])
    report = Report(results=(), baseline=_baseline(baseline, systems), command=command)
    with reported():
        bench = _bench(settings, split=split, limit=limit, exclude_own_id=exclude_own_id)
        by_name = set() if mode == ["all"] else {system.mode for system in systems}
        if "questions" in by_name:
            bench = replace(bench, questions=bench.written_questions())
        bench = replace(bench, tree=bench.tree_making(by_name))
        equipped = [bench.equipped(system, rerank, transform) for system in systems]
        for folder in folders:
            for system in equipped:
                try:
                    with progress(errors, quiet=as_json) as say:
                        result = bench.measure(folder, system, say)
                except ModeUnavailable as error:
                    if mode != ["all"]:
                        raise
                    if not as_json:
                        errors.print(f"{system.mode}: left out: {error}", markup=False)
                    continue
                report = replace(report, results=(*report.results, result))
            if out is not None:
                report.save(out)  # after each folder, so that what was measured outlives Ctrl-C
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)


def _systems(modes: list[str] | None, default: Mode, fusion: FusionSpec | None) -> list[System]:
    """The modes, and the fusion behind them; it takes the place of `fused` and of the default."""
    names = list(MODES) if modes == ["all"] else modes or [default]
    for name in names:
        if name not in MODES:
            raise typer.BadParameter(f"one of {', '.join(MODES)}, all", param_hint="--mode")
    if fusion is None:
        return [System(mode=name) for name in names]
    beside = [System(mode=name) for name in (names if modes else ()) if name != "fused"]
    return [*beside, System(mode="fused", fusion=fusion)]


def _baseline(wanted: str | None, systems: list[System]) -> str | None:
    labels = [system.label for system in systems]
    check_one_of(wanted, labels, "--baseline")
    return (wanted or labels[0]) if len(labels) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What the measurements of one call share."""

    settings: Settings
    encoder: Encoder
    sparse: SparseEncoder | None
    language_model: LanguageModel | None
    split: str | None
    limit: int | None
    exclude_own_id: bool
    questions: Questions | None = None
    """Only where they are asked for by name: a model writes some for every chunk."""

    tree: TreeMaking | None = None

    def tree_making(self, by_name: Set[str]) -> TreeMaking:
        """As trees are grown; a model writes summaries only where a tree is asked for by name.

        Raises InvalidRequest (`llm_not_configured`).
        """
        from retrievers.evaluation.tree import TreeMaking

        settings = self.settings
        if not by_name & {"tree", "tree_traversal"}:
            by_sentences = settings.tree.model_copy(update={"summarizer": "extractive"})
            settings = settings.model_copy(update={"tree": by_sentences})
        writer = trees.summariser(settings, self.language_model, self.encoder)
        n_parallel = settings.llm.max_parallel if isinstance(writer, LlmSummariser) else 1
        return TreeMaking(spec=trees.spec_of(settings.tree), summariser=writer, n_parallel=n_parallel)

    def written_questions(self) -> Questions:
        """Raises InvalidRequest (`llm_not_configured`)."""
        from retrievers.evaluation.expansions import Questions

        given = self.settings.expansion
        writer = QuestionWriter(
            model=needed(self.language_model, "Writing questions"),
            n_questions=given.questions,
            seconds=given.seconds,
            n_parallel=self.settings.llm.max_parallel,
        )
        return Questions(writer=writer, drop=given.drop)

    def equipped(self, system: System, rerank: str | None, transform: str | None) -> System:
        """The system set as searches are, with what is to go before and after it."""
        given = replace(
            system, rerank_k=self.settings.search.rerank_k, tuning=tuning_of(self.settings.search)
        )
        if transform is not None:
            mode = cast(Mode, system.mode)
            made = transformation(transform, mode, self.language_model, self.settings.transform)
            given = replace(given, transformation=made)
        if rerank is not None:
            given = replace(given, reranker=partial(self._reranker, rerank))
        return given

    def _reranker(self, name: str, resources: Resources, note: Note) -> Reranker:
        parts = RerankParts(
            settings=self.settings,
            resources=resources,
            encoder=self.encoder,
            language_model=self.language_model,
            note=note,
        )
        return reranker(name, parts)

    def measure(self, folder: Path, system: System, say: Progress) -> EvaluationResult:
        from retrievers.evaluation.evaluation import evaluate

        return evaluate(
            folder,
            system,
            encoder=self.encoder,
            work_dir=self.settings.home / "evaluation",
            sparse=self.sparse,
            questions=self.questions,
            tree=self.tree,
            chunker_spec=fitting_chunker(self.settings.chunker, self.encoder.max_tokens),
            split=self.split,
            limit=self.limit,
            exclude_own_id=self.exclude_own_id,
            progress=say,
        )


def _bench(settings: Settings, *, split: str | None, limit: int | None, exclude_own_id: bool) -> _Bench:
    return _Bench(
        settings=settings,
        encoder=EncoderPool(settings.models_dir).get(encoder_spec(settings.encoder)),
        sparse=SparseEncoders(settings.sparse).set_up(),
        language_model=language_model(settings.llm),
        split=split,
        limit=limit,
        exclude_own_id=exclude_own_id,
    )


def _print(report: Report) -> None:
    from retrievers.evaluation.report import mean_metrics

    console.print(_table([result.to_json() for result in report.results], mean_metrics(report.results)))
    _print_comparison(report)


def _table(rows: list[dict[str, Any]], means: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(
        "dataset",
        "mode",
        *METRICS,
        "p50 ms",
        "p95 ms",
        "bytes/chunk",
        "queries",
        "documents",
        "chunks",
        box=None,
        pad_edge=False,
    )
    for row in rows:
        latency = row["latency_ms"]
        table.add_row(
            row["dataset"],
            row["mode"],
            *(f"{row['metrics'][name]:.4f}" for name in METRICS),
            f"{latency['p50']:.1f}",
            f"{latency['p95']:.1f}",
            f"{row['bytes_per_chunk']['total']:.0f}",
            *(str(row[name]) for name in ("n_queries", "n_documents", "n_chunks")),
        )
    for mode, metrics in means.items():
        table.add_row("mean", mode, *(f"{metrics[name]:.4f}" for name in METRICS))
    return table


def _print_comparison(report: Report) -> None:
    compared = [(item, item.versus) for item in report.standings if item.versus is not None]
    if not compared:
        return
    console.print(f"\n{report.metric} against {report.baseline}:", markup=False)
    table = Table("dataset", "mode", "difference", "95 % interval", "p", box=None, pad_edge=False)
    for item, versus in compared:
        table.add_row(
            item.dataset,
            item.mode,
            f"{versus.difference:+.4f}",
            f"{versus.low:+.4f} to {versus.high:+.4f}",
            f"{versus.p_value:.4f}",
        )
    console.print(table)
