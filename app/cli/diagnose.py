"""`footnote diagnose`: at which point questions with known answers fail."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app.api.schemas.learning import diagnosis_out
from app.cli.context import (
    CollectionOption,
    HomeOption,
    JsonOption,
    console,
    errors,
    print_json,
    services_for,
)
from app.cli.options import check_one_of
from app.cli.progress import progress
from app.cli.search import GENERATORS, ModeOption, RerankOption
from app.learning.diagnosing import Asked, diagnose, golden_cases
from app.learning.diagnosis import TITLES, Diagnosis, Summary, read, summarise
from app.search.rerankers import RERANKERS
from app.search.searching import SearchRequest
from retrievers.modes import MODES

EXCERPT = 80


def diagnose_command(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Questions as JSONL. [default: the golden questions]", exists=True, dir_okay=False
        ),
    ] = None,
    collection: CollectionOption = "default",
    mode: ModeOption = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", "-k", min=1, max=100, help="Passages to rest on.")
    ] = None,
    rerank: RerankOption = None,
    generator: Annotated[str, typer.Option(help="auto, extractive or llm.")] = "auto",
    only_search: Annotated[
        bool, typer.Option("--only-search", help="Answer nothing: look at FP1 to FP3 alone.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say for questions with known answers at which of seven points each failure is, with the evidence.

    FP1 missing content, FP2 missed the top ranks, FP3 not in context, FP4 not extracted, FP5 wrong format,
    FP6 incorrect specificity, FP7 incomplete. A line of the file is {"question": …, "answer": …}, or has
    "expected" as golden questions do, or "unanswerable": true.

    Example: footnote diagnose questions.jsonl --collection manuals
    """
    check_one_of(mode, MODES, "--mode")
    check_one_of(rerank, RERANKERS, "--rerank")
    check_one_of(generator, GENERATORS, "--generator")
    with services_for(home) as services:
        cases = read(file) if file is not None else golden_cases(services, collection)
        asked = Asked(
            request=SearchRequest(
                query="",
                collection=collection,
                mode=mode,  # type: ignore[arg-type]
                top_k=top_k or services.settings.answer.top_k,
                rerank=rerank,
            ),
            generator=None if only_search else generator,  # type: ignore[arg-type]
        )
        with progress(errors, quiet=as_json) as say:
            found = diagnose(services, cases, asked, say)
    summary = summarise(found)
    if as_json:
        print_json(
            {"summary": asdict(summary), "questions": [diagnosis_out(item).model_dump() for item in found]}
        )
    else:
        _print(found, summary)


def _print(found: list[Diagnosis], summary: Summary) -> None:
    table = Table("failure", "question", "evidence", box=None, pad_edge=False)
    for item in found:
        if item.failures:
            said = ", ".join(f"{name}: {value}" for name, value in item.evidence.items())
            table.add_row(" ".join(item.failures), item.case.question[:EXCERPT], said)
    if table.row_count:
        console.print(table, markup=False)
        console.print()
    counts = Table("point", "", "questions", "what to try", box=None, pad_edge=False)
    for point, n_questions in summary.counts.items():
        counts.add_row(point, TITLES[point], str(n_questions), summary.advice.get(point, ""))
    console.print(counts)
    console.print(f"{summary.n_right} of {summary.n_questions} questions went well")
