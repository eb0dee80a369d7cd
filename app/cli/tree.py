"""`footnote tree …`: the tree of summaries of a collection, grown, shown, removed."""

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
    fail,
    print_json,
    services_for,
)
from app.cli.progress import progress
from app.db import collections
from app.db import nodes as node_rows
from app.db import trees as tree_rows
from app.ids import format_id
from app.nodes import trees
from app.nodes.trees import TreeStatus
from app.services import Services

tree_app = typer.Typer(no_args_is_help=True, help="Grow, look at and remove trees of summaries.")


@tree_app.command("build")
def build_tree(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Grow the tree of summaries of a collection, or what of it is missing.

    Its modes are `tree` and `tree_traversal`. A build that was interrupted, with Ctrl-C or by a kill, goes on
    where it stopped when it is given again. A worker updates the tree when documents have changed.

    Example: footnote tree build --collection manuals
    """
    with services_for(home) as services:
        collection_id = _id(services, collection)
        with progress(errors, quiet=as_json) as say:
            found = trees.build(services, collection_id, say)
        _print(found, as_json)


@tree_app.command("status")
def tree_status(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Say how many summaries there are on each level, and whether they have seen every change.

    Example: footnote tree status
    """
    with services_for(home) as services:
        _print(_status(services, collection), as_json)


@tree_app.command("show")
def show_tree(
    collection: CollectionOption = "default",
    depth: Annotated[int, typer.Option(min=1, max=10, help="How many layers, from the top.")] = 1,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the summaries at the top of the tree, and with --depth those under them.

    Example: footnote tree show --depth 2
    """
    with services_for(home) as services:
        _status(services, collection)
        entries = _entries(services, _id(services, collection), depth)
        if as_json:
            print_json({"nodes": entries})
            return
        for entry in entries:
            line = f"{'  ' * int(str(entry['depth']))}{entry['n_leaves']} chunks: {entry['text']}"
            console.print(line, markup=False, soft_wrap=True)


@tree_app.command("remove")
def remove_tree(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Remove the tree of a collection. Documents and chunks stay.

    Example: footnote tree remove --collection manuals
    """
    with services_for(home) as services:
        n_nodes = trees.remove(services, _id(services, collection))
        if as_json:
            print_json({"collection": collection, "n_nodes": n_nodes})
        else:
            console.print(f"{n_nodes} summaries removed")


def _id(services: Services, collection: str) -> int:
    with services.read() as session:
        return collections.get_by_name(session, collection).id


def _status(services: Services, collection: str) -> TreeStatus:
    found = trees.status(services, _id(services, collection))
    if found is None:
        fail(f"{collection} has no tree; `footnote tree build` grows one (tree_not_found)")
    return found


def _entries(services: Services, collection_id: int, depth: int) -> list[dict[str, object]]:
    """The nodes of the upper layers, each before those under it."""
    found: list[dict[str, object]] = []
    with services.read() as session:
        state = tree_rows.state(session, collection_id)
        chunker = state.chunker if state else ""
        roots = node_rows.roots(session, collection_id, chunker, "summary")
        waiting = [(int(key), 0) for key in roots[::-1]]
        while waiting:
            key, at = waiting.pop()
            row = node_rows.load(session, [key]).get(key)
            if row is None:
                continue
            found.append(
                {
                    "id": format_id(key),
                    "depth": at,
                    "level": row.level,
                    "n_leaves": len(node_rows.leaves(session, [key])[key]),
                    "text": row.text,
                }
            )
            if at + 1 < depth:
                below = node_rows.children(session, [key])[key][1]
                waiting += [(child, at + 1) for child in reversed(below)]
    return found


def _print(found: TreeStatus, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found) | {"n_nodes": found.n_nodes})
        return
    console.print(f"{found.collection}: {found.n_nodes} summaries by {found.model}", markup=False)
    for level, n in found.levels.items():
        console.print(f"  level {level}: {n}")
    if found.behind:
        console.print(f"{found.behind} changes are not in it yet; `footnote tree build` or a worker follows")
