"""`footnote expand`: questions and words that chunks are found by, made, counted, removed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

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
from app.db import collections
from app.nodes import expanding
from app.nodes.expanding import KINDS
from app.nodes.expansion_writers import chosen_how


def expand_command(
    collection: CollectionOption = "default",
    kind: Annotated[
        str,
        typer.Option(help="questions: vectors of questions a chunk answers. expansion: words to find it by."),
    ] = "expansion",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many chunks lack it.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove it, and keep it up no longer.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make chunks easier to find, and keep that up for documents that come later.

    Questions need a language model. Expansions are made by it where one is set, and otherwise of the words of
    the nearest chunks. What is made leads to chunks and is never cited. Interrupted with Ctrl-C, the command
    goes on where it stopped when it is given again. Search it with the modes `questions` and `expanded`.

    Examples:

        footnote expand --kind expansion

        footnote expand --kind questions --dry-run
    """
    check_one_of(kind, KINDS, "--kind")
    wanted = KINDS[kind]
    with services_for(home) as services:
        with services.read() as session:
            collection_id = collections.get_by_name(session, collection).id
        if remove and dry_run:
            raise typer.BadParameter("takes no --remove", param_hint="--dry-run")
        if remove:
            with progress(errors, quiet=as_json) as say:
                n_removed = expanding.remove(services, collection_id, wanted, say)
            result = {"kind": wanted, "n_removed": n_removed}
            said = f"Removed {n_removed} nodes."
        else:
            how = chosen_how(services, wanted)
            if dry_run:
                plan = expanding.plan(services, collection_id, wanted, how)
                result = asdict(plan)
                said = f"{plan.n_chunks} chunks lack it; {plan.model} would make it."
            else:
                with progress(errors, quiet=as_json) as say:
                    made = expanding.expand(services, collection_id, wanted, how, say)
                expanding.keep_up(services, collection_id, wanted, how)
                result = asdict(made)
                said = (
                    f"{made.n_nodes} nodes for {made.n_chunks} chunks by {made.model}; "
                    f"{made.n_dropped} questions dropped, {made.n_failed} chunks failed."
                )
    if as_json:
        print_json(result)
    else:
        console.print(said, markup=False)
