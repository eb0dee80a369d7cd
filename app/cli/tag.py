"""`footnote tag`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.text import Text

from app.api.schemas.tags import LabelIn, tagged_out
from app.cli.context import (
    CollectionOption,
    HomeOption,
    JsonOption,
    console,
    errors,
    print_json,
    read_object,
    services_for,
)
from app.cli.progress import progress
from app.cli.search import FilterOption
from app.search.tagging import Tagged, TagRequest, tag_all
from retrievers.labels import PRIOR_WEIGHT, THRESHOLD, Label


def tag_command(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="A label a line, or .jsonl: name, description, prior.")
    ],
    collection: CollectionOption = "default",
    filters: FilterOption = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=100, help="Labels a document.")] = 3,
    threshold: Annotated[float, typer.Option(help="The least score of a label.")] = THRESHOLD,
    prior_weight: Annotated[
        float, typer.Option("--prior-weight", min=0, help="How much the priors of labels count.")
    ] = PRIOR_WEIGHT,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many documents.")] = None,
    write: Annotated[
        str | None, typer.Option("--write", metavar="FIELD", help="Write the labels into this field.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing whatever --write says.")] = False,
    llm: Annotated[bool, typer.Option(help="Ask the language model, where one is set.")] = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tag documents with labels of your own list, and write them into the metadata if you say so.

    Run again, it gives the same labels; after Ctrl-C what was written stays.

    Example: footnote tag topics.txt --write topics --dry-run
    """
    request = TagRequest(
        labels=tuple(read_labels(labels)),
        collection=collection,
        filters=read_object(filters, "--filter"),
        top_k=top_k,
        threshold=threshold,
        prior_weight=prior_weight,
        limit=limit,
        write=None if dry_run else write,
        use_llm=llm,
    )
    shown: list[Tagged] = []
    with services_for(home) as services, progress(errors, quiet=as_json) as say:
        for page in tag_all(services, request):
            shown += page.tagged
            say("tag", len(shown), len(shown) + (0 if page.next_cursor is None else 1))
            if not as_json:
                for item in page.tagged:
                    _print(item)
    if as_json:
        print_json({"data": [tagged_out(item).model_dump(mode="json") for item in shown]})
        return
    n_tagged = sum(bool(item.labels) for item in shown)
    n_written = sum(item.written for item in shown)
    console.print(f"{len(shown)} documents, {n_tagged} with a label, {n_written} written")


def _print(item: Tagged) -> None:
    names = ", ".join(f"{found.label.name} {found.score:.2f}" for found in item.labels)
    console.print(Text(f"{item.source}: {names or '–'}"), soft_wrap=True)
    if item.note:
        console.print(Text(f"   {item.note}", style="dim"), soft_wrap=True)


def read_labels(path: Path) -> list[Label]:
    """The labels of a file; a wrong line is wrong usage."""
    if not path.is_file():
        raise typer.BadParameter(f"there is no file {path}", param_hint="LABELS")
    found = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8", param_hint="LABELS") from error
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line:
            continue
        try:
            given = (
                LabelIn.model_validate(json.loads(line)) if path.suffix == ".jsonl" else LabelIn(name=line)
            )
        except (ValueError, RecursionError, ValidationError) as error:
            raise typer.BadParameter(f"{path}, line {number}: {error}", param_hint="LABELS") from error
        found.append(Label(name=given.name, description=given.description, prior=given.prior))
    return found
