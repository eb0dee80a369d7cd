"""`footnote similar`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from app.api.schemas.similar import similar_out
from app.cli.context import (
    CollectionOption,
    HomeOption,
    JsonOption,
    console,
    print_json,
    read_object,
    services_for,
)
from app.cli.options import check_one_of
from app.cli.search import EXCERPT, FilterOption
from app.search.similar import SimilarRequest, find_similar

SEPARATOR = "||"


def similar_command(
    like: Annotated[
        list[str] | None,
        typer.Option("--like", help="An id, a source or a text; may be repeated: the first set."),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--and", help="One more set, its members separated by `||`; may be repeated."),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option("--not", help="A set that results are unlike, written in the same way."),
    ] = None,
    by: Annotated[str, typer.Option(help="chunks or documents.")] = "chunks",
    include_given: Annotated[
        bool, typer.Option("--include-given", help="Let what was named be a result too.")
    ] = False,
    collection: CollectionOption = "default",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="How many results.")] = 5,
    filters: FilterOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find what is like these, and like those, but not like these others.

    Example: footnote similar --like "tea" --and "brewing || hot water" --not report-2019.pdf --by documents
    """
    check_one_of(by, ("chunks", "documents"), "--by")
    if not like and not also and not unlike:
        raise typer.BadParameter("name something with --like or --not", param_hint="--like")
    request = SimilarRequest(
        like=((tuple(like),) if like else ()) + tuple(_members(group) for group in also or ()),
        unlike=tuple(_members(group) for group in unlike or ()),
        collection=collection,
        top_k=top_k,
        filters=read_object(filters, "--filter"),
        by=by,  # type: ignore[arg-type]
        include_given=include_given,
    )
    with services_for(home) as services:
        result = find_similar(services, request)
    if as_json:
        print_json(similar_out(result))
        return
    for item in result.items:
        console.print(Text(f"{item.kind}: {item.name}", style="dim"), soft_wrap=True)
    if not result.passages:
        console.print("Nothing found.")
    for passage in result.passages:
        head = f"{passage.rank}. {passage.title or passage.source}  {passage.score:.4f}"
        parts = "  ".join(f"{name} {score:+.3f}" for name, score in passage.scores.items())
        where = f"   {passage.source}, characters {passage.chunk.start}–{passage.chunk.end}   ({parts})"
        console.print(Text(head, style="bold"), soft_wrap=True)
        console.print(Text(where, style="dim"), soft_wrap=True)
        console.print(Text("   " + " ".join(passage.chunk.text.split())[:EXCERPT]), soft_wrap=True)


def _members(group: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in group.split(SEPARATOR) if part.strip())
