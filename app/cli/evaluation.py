"""`footnote eval`: retrieval quality on collections in BEIR layout."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

from app.cli.context import HomeOption, JsonOption, console, errors, print_json, read_settings, reported
from app.cli.fusing import FuseOption, FusionOption, WeightsOption, read_fusion
from app.cli.progress import progress
from app.cli.search import RerankOption, TransformOption
from app.encoders import EncoderPool
from app.indexes import tuning_of
from app.language_model import language_model
from app.rerankers import RERANKERS, RerankParts, reranker
from app.services import encoder_spec, fitting_chunker
from app.sparse import SparseEncoders
from app.transformations import TRANSFORMATIONS, transformation
from retrievers.base import Reranker
from retrievers.errors import ModeUnavailable
from retrievers.fused import FusionSpec
from retrievers.modes import MODES, Resources
from retrievers.types import Mode

if TYPE_CHECKING:
    from retrievers.evaluation.report import Report

METRICS = ("ndcg@10", "recall@10", "recall@100", "mrr@10")


def eval_command(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders in BEIR layout, plain or gzip.", exists=True, file_okay=False),
    ],
    mode: Annotated[
        list[str] | None, typer.Option("--mode", "-m", help="May be repeated, or `all`. [default: hybrid]")
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
    from retrievers.evaluation.evaluation import EvaluationResult, evaluate
    from retrievers.evaluation.report import Report, mean_metrics

    if rerank is not None and rerank not in RERANKERS:
        raise typer.BadParameter(f"one of {', '.join(RERANKERS)}", param_hint="--rerank")
    if transform is not None and transform not in TRANSFORMATIONS:
        raise typer.BadParameter(f"one of {', '.join(TRANSFORMATIONS)}", param_hint="--transform")
    asked = read_fusion(None, fuse, fusion, weights)
    modes = _modes(mode)
    # The mode `fused` by itself is what the options say, or reciprocal ranks over BM25 and vectors.
    runs: list[tuple[str, FusionSpec | None]] = [(name, None) for name in modes]
    if asked is not None:
        runs = [run for run in runs if run[0] != "fused" and mode is not None] + [("fused", asked)]
    names = [name if spec is None else spec.label for name, spec in runs]
    if baseline is not None and baseline not in names:
        raise typer.BadParameter(f"one of {', '.join(names)}", param_hint="--baseline")
    settings = read_settings(home)
    results: list[EvaluationResult] = []

    def report() -> Report:
        return Report(
            results=tuple(results),
            baseline=(baseline or names[0]) if len(names) > 1 else None,
            command=shlex.join(["footnote", *sys.argv[1:]]),
        )

    with reported():
        model = language_model(settings.llm)
        transformations = {
            name: transformation(transform, cast(Mode, name), model, settings.transform)
            for name, _ in runs
            if transform is not None
        }
        encoder = EncoderPool(settings.models_dir).get(encoder_spec(settings.encoder))
        sparse = SparseEncoders(settings.sparse).set_up()

        def make_reranker(resources: Resources, note: Callable[[str], None]) -> Reranker:
            parts = RerankParts(
                settings=settings, resources=resources, encoder=encoder, language_model=model, note=note
            )
            return reranker(rerank or "", parts)

        for folder in folders:
            for name, spec in runs:
                try:
                    with progress(errors, quiet=as_json) as say:
                        result = evaluate(
                            folder,
                            mode=name,
                            fusion=spec,
                            encoder=encoder,
                            chunker_spec=fitting_chunker(settings.chunker, encoder.max_tokens),
                            work_dir=settings.home / "evaluation",
                            split=split,
                            limit=limit,
                            transformation=transformations.get(name),
                            reranker=None if rerank is None else make_reranker,
                            rerank_k=settings.search.rerank_k,
                            sparse=sparse,
                            exclude_own_id=exclude_own_id,
                            tuning=tuning_of(settings.search),
                            progress=say,
                        )
                except ModeUnavailable as error:
                    if mode != ["all"]:
                        raise
                    if not as_json:
                        errors.print(f"{name}: left out: {error}", markup=False)
                    continue
                results.append(result)
            if out is not None:
                report().save(out)  # after each folder, so that what was measured outlives Ctrl-C
    if as_json:
        print_json(report().to_json())
        return
    console.print(_table([result.to_json() for result in results], mean_metrics(results)))
    _print_comparison(report())


def _modes(given: list[str] | None) -> tuple[str, ...]:
    names = tuple(given or ["hybrid"])
    if names == ("all",):
        return tuple(MODES)
    for name in names:
        if name not in MODES:
            raise typer.BadParameter(f"one of {', '.join(MODES)}, all", param_hint="--mode")
    return names


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
