"""`footnote golden …`: questions that a search must find the answers to."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy.orm import Session

from app import golden, golden_files
from app.api.schemas import GoldenDeleted
from app.api.views import golden_out, golden_run_out
from app.cli.context import (
    CollectionOption,
    HomeOption,
    JsonOption,
    console,
    errors,
    print_json,
    services_for,
)
from app.cli.progress import progress
from app.cli.search import ModeOption
from app.db import collections, documents, versions
from app.db import golden as questions
from app.db.golden import Expected
from app.golden import GoldenRun, Item, Outcome
from app.ids import format_id, parse_id
from app.services import Services
from retrievers.evaluation.significance import Comparison
from retrievers.modes import MODES

golden_app = typer.Typer(
    no_args_is_help=True, help="Keep questions with what a search must find, and measure what it finds."
)

EXCERPT = 48


@golden_app.command("add")
def add_question(
    question: Annotated[str, typer.Argument(help="The question, as someone would ask it.")],
    source: Annotated[
        list[str],
        typer.Option(
            "--source", "-s", help="The document that must be found: source, path or id; repeatable."
        ),
    ],
    quote: Annotated[
        str | None, typer.Option(help="What it says there, word for word: the place that must be found.")
    ] = None,
    collection: CollectionOption = "default",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a question and the document, or the place in it, that a search must find.

    The same question again adds to what it expects.

    Example: footnote golden add "How long is a lease?" --source docs/jobs.md --quote "lasts 30 seconds"
    """
    if not question.strip():
        raise typer.BadParameter("the question is empty", param_hint="QUESTION")
    if quote is not None and len(source) > 1:
        raise typer.BadParameter("a quotation is of a single document", param_hint="--quote")
    with services_for(home) as services:
        with services.read() as session:
            collection_id = collections.get_by_name(session, collection).id
            sources = [_source(session, collection_id, name) for name in source]
        added = golden.add(services, collection, question, [Expected(name, quote) for name in sources])
    if as_json:
        print_json(golden_out(added, collection))
    else:
        console.print(f"{format_id(added.id)}: {len(added.expected)} expected", markup=False)


@golden_app.command("list")
def list_questions(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """The golden questions of a collection, the oldest first."""
    with services_for(home) as services, services.read() as session:
        found = questions.list_all(session, collections.get_by_name(session, collection).id)
    if as_json:
        print_json({"data": [golden_out(item, collection).model_dump(mode="json") for item in found]})
        return
    table = Table("id", "question", "expected", box=None, pad_edge=False)
    for item in found:
        table.add_row(format_id(item.id), item.question, "\n".join(map(_named, item.expected)))
    console.print(table, markup=False)


@golden_app.command("remove")
def remove_question(
    question_id: Annotated[str, typer.Argument(metavar="QUESTION_ID", help="The question's id.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a golden question."""
    with services_for(home) as services, services.write() as session:
        number = parse_id(question_id, "golden_question")
        questions.remove(session, number)
    if as_json:
        print_json(GoldenDeleted(id=format_id(number), deleted=True))
    else:
        console.print("removed")


@golden_app.command("import")
def import_questions(
    file: Annotated[Path, typer.Argument(help="JSONL, CSV, or a folder in BEIR layout.", exists=True)],
    collection: CollectionOption = "default",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the questions of a file; what is kept already is not doubled.

    A line of JSONL is {"question": …, "expected": [{"source": …, "quote": …}]}; a CSV file has the columns
    question, source and quote; of a BEIR folder the judged queries are taken, with document ids as sources.

    Example: footnote golden import questions.csv --collection manuals
    """
    with services_for(home) as services:
        n_questions = golden.add_all(services, collection, golden_files.read(file))
    if as_json:
        print_json({"questions": n_questions})
    else:
        console.print(f"{n_questions} questions")


@golden_app.command("export")
def export_questions(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Print the golden questions as JSONL, which `golden import` takes; with --json as one document.

    Example: footnote golden export > questions.jsonl
    """
    with services_for(home) as services, services.read() as session:
        found = questions.list_all(session, collections.get_by_name(session, collection).id)
    if as_json:
        print_json(
            {"data": [{"question": q.question, "expected": list(map(asdict, q.expected))} for q in found]}
        )
        return
    for line in golden_files.write(found):
        typer.echo(line)


@golden_app.command("run")
def run_questions(
    collection: CollectionOption = "default",
    version: Annotated[
        str | None, typer.Option(help="An index version, or how its id begins. [default: the served one]")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="Another version: how much better it is, and how surely.")
    ] = None,
    mode: ModeOption = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="Passages looked at.")] = 10,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask every golden question, and show at which rank what it expects was found.

    Recall is the share of the expected documents and quotations among the first passages, averaged over the
    questions. What is expected and no longer there is reported as stale and left out.

    Example: footnote golden run --compare 3f2a
    """
    if mode is not None and mode not in MODES:
        raise typer.BadParameter(f"one of {', '.join(MODES)}", param_hint="--mode")
    with services_for(home) as services:
        with services.read() as session:
            collection_id = collections.get_by_name(session, collection).id
        runs: list[GoldenRun] = []
        for name in [version] if compare is None else [version, compare]:
            version_id = _version(services, collection_id, name)
            with progress(errors, quiet=as_json) as say:
                runs.append(
                    golden.run(services, collection_id, version_id, mode=mode, top_k=top_k, progress=say)  # type: ignore[arg-type]
                )
    difference = golden.compare(runs[0], runs[1]) if compare is not None else None
    if as_json:
        shown = golden_run_out(runs[0]).model_dump(mode="json")
        if compare is not None:
            shown["compared"] = golden_run_out(runs[1]).model_dump(mode="json")
            shown["recall_difference"] = asdict(difference) if difference is not None else None
        print_json(shown)
        return
    for found in runs:
        _print_run(found)
    if difference is not None:
        _print_difference(difference, top_k)


def _source(session: Session, collection_id: int, name: str) -> str:
    """The source meant: as it stands, else that of the file at this path, as `footnote ingest` names it."""
    path = os.path.abspath(name)
    if documents.get_by_source(session, collection_id, name) is None:
        return path if documents.get_by_source(session, collection_id, path) is not None else name
    return name


def _version(services: Services, collection_id: int, name: str | None) -> str | None:
    if name is None:
        return None
    with services.read() as session:
        ids = [row.id for row in versions.list_all(session, collection_id=collection_id)]
        matching = [version_id for version_id in ids if version_id.startswith(name)]
        return matching[0] if len(matching) == 1 else versions.get(session, name).id


def _print_run(run: GoldenRun) -> None:
    table = Table("rank", "question", "expected", box=None, pad_edge=False)
    for outcome in run.outcomes:
        table.add_row("\n".join(map(_found, outcome.items)), outcome.question.question, _expected(outcome))
    console.print(table, markup=False)
    console.print(f"version {run.version_id or 'none'}, mode {run.mode}", markup=False)
    for metric, name in (("recall", "Recall"), ("mrr", "MRR"), ("ndcg", "nDCG")):
        mean = run.mean(metric)  # type: ignore[arg-type]
        if mean is not None:
            console.print(f"{name}@{run.top_k}: {mean.mean:.3f} (95 %: {mean.low:.3f} to {mean.high:.3f})")
    n_stale = len(run.outcomes) - run.n_measured
    console.print(f"{run.n_measured} questions measured" + (f", {n_stale} stale" if n_stale else ""))


def _print_difference(difference: Comparison, top_k: int) -> None:
    console.print(
        f"difference of Recall@{top_k}: {difference.difference:+.3f} "
        f"(95 %: {difference.low:+.3f} to {difference.high:+.3f}, p = {difference.p_value:.3f})"
    )


def _expected(outcome: Outcome) -> str:
    return "\n".join(_named(item.expected) for item in outcome.items)


def _found(item: Item) -> str:
    return item.stale or (str(item.rank) if item.rank is not None else "–")


def _named(expected: Expected) -> str:
    if expected.quote is None:
        return expected.source
    quote = " ".join(expected.quote.split())
    return f"{expected.source}: “{quote[:EXCERPT]}{'…' if len(quote) > EXCERPT else ''}”"
