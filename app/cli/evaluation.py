"""`footnote eval`: retrieval quality on collections in BEIR layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from app.cli.context import HomeOption, JsonOption, console, errors, print_json, read_settings, reported
from app.cli.progress import progress
from app.cli.search import RerankOption, TransformOption
from app.encoders import EncoderPool
from app.language_model import language_model
from app.rerankers import RERANKERS, RerankParts, reranker
from app.services import encoder_spec, fitting_chunker
from app.transformations import TRANSFORMATIONS, transformation
from retrievers.base import Reranker
from retrievers.modes import MODES, Resources
from retrievers.types import Mode

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
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure nDCG@10, Recall@10 and @100, MRR@10 and latency.

    Each folder is indexed once, as ingested documents are, and kept under the data folder for the next time.
    Metrics are means over all judged queries; a query without results counts zero.

    Example: footnote eval data/cranfield data/cisi --mode bm25 --mode hybrid
    """
    from retrievers.evaluation.evaluation import EvaluationResult, evaluate

    if rerank is not None and rerank not in RERANKERS:
        raise typer.BadParameter(f"one of {', '.join(RERANKERS)}", param_hint="--rerank")
    if transform is not None and transform not in TRANSFORMATIONS:
        raise typer.BadParameter(f"one of {', '.join(TRANSFORMATIONS)}", param_hint="--transform")
    modes = _modes(mode)
    settings = read_settings(home)
    results: list[EvaluationResult] = []
    with reported():
        model = language_model(settings.llm)
        transformations = {
            name: transformation(transform, cast(Mode, name), model, settings.transform)
            for name in modes
            if transform is not None
        }
        encoder = EncoderPool(settings.models_dir).get(encoder_spec(settings.encoder))

        def make_reranker(resources: Resources, note: Callable[[str], None]) -> Reranker:
            parts = RerankParts(
                settings=settings, resources=resources, encoder=encoder, language_model=model, note=note
            )
            return reranker(rerank or "", parts)

        for folder in folders:
            for name in modes:
                with progress(errors, quiet=as_json) as say:
                    results.append(
                        evaluate(
                            folder,
                            mode=name,
                            encoder=encoder,
                            chunker_spec=fitting_chunker(settings.chunker, encoder.max_tokens),
                            work_dir=settings.home / "evaluation",
                            split=split,
                            limit=limit,
                            transformation=transformations.get(name),
                            reranker=None if rerank is None else make_reranker,
                            rerank_k=settings.search.rerank_k,
                            progress=say,
                        )
                    )
    if as_json:
        print_json({"results": [result.to_json() for result in results]})
    else:
        console.print(_table([result.to_json() for result in results]))


def _modes(given: list[str] | None) -> tuple[str, ...]:
    names = tuple(given or ["hybrid"])
    if names == ("all",):
        return tuple(MODES)
    for name in names:
        if name not in MODES:
            raise typer.BadParameter(f"one of {', '.join(MODES)}, all", param_hint="--mode")
    return names


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        "dataset",
        "mode",
        *METRICS,
        "p50 ms",
        "p95 ms",
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
            *(str(row[name]) for name in ("n_queries", "n_documents", "n_chunks")),
        )
    return table
