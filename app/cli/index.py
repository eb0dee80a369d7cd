"""`footnote index …`: versions built, verified, switched."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from app import building
from app.api.views import version_out
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
from app.db import collections, versions
from app.db.errors import VersionNotReady
from app.db.tables import IndexVersionRow
from app.services import Services
from app.settings import ChunkerSettings, EncoderSettings, Settings

index_app = typer.Typer(no_args_is_help=True, help="Build, verify and switch index versions.")

VersionArgument = Annotated[str, typer.Argument(help="The version's id, or how it begins.")]
ActivateOption = Annotated[bool, typer.Option(help="Serve the new version when it is verified.")]


@index_app.command("build")
def build_index(
    collection: CollectionOption = "default",
    encoder: Annotated[
        str | None, typer.Option(help="`default`, or a sentence-transformers name or folder.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=16, help="Longest chunk in tokens.")] = None,
    overlap_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens repeated between chunks.")] = None,
    activate: ActivateOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a version with the present settings beside the one that is served, then switch to it.

    Searches go on while it is built. What was encoded before is not encoded again, so a build that was
    interrupted goes on where it stopped.

    Example: footnote index build --encoder BAAI/bge-small-en-v1.5 --no-activate
    """
    with services_for(home) as services:
        chosen = _with(services.settings, encoder, max_tokens, overlap_tokens)
        services.settings = chosen
        collection_id = _collection_id(services, collection)
        with progress(errors, quiet=as_json) as say:
            row = building.build(services, collection_id, progress=say)
        if activate:
            row = building.activate(services, row.id)
        _print_version(services, row, as_json)


@index_app.command("rebuild")
def rebuild_index(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Make the served version anew from the database; nothing is encoded twice."""
    with services_for(home) as services:
        with progress(errors, quiet=as_json) as say:
            row = building.rebuild(services, _collection_id(services, collection), progress=say)
        _print_version(services, row, as_json)


@index_app.command("list")
def list_versions(
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Only this collection's.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Index versions, the newest first."""
    with services_for(home) as services, services.read() as session:
        by_id = {row.id: row for row in collections.list_all(session)}
        wanted = collections.get_by_name(session, collection).id if collection else None
        shown = [
            version_out(row, by_id[row.collection_id])
            for row in versions.list_all(session, collection_id=wanted)
        ]
    if as_json:
        print_json({"data": [item.model_dump(mode="json") for item in shown]})
        return
    table = Table("", "id", "collection", "status", "chunks", "encoder", "created", box=None, pad_edge=False)
    for item in shown:
        mark = "→" if item.active else ""
        created = item.created_at.strftime("%Y-%m-%d %H:%M")
        table.add_row(mark, item.id, item.collection, item.status, str(item.n_chunks), item.encoder, created)
    console.print(table)


@index_app.command("status")
def index_status(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Which version is served, and how far it has followed the changes."""
    with services_for(home) as services, services.read() as session:
        owner = collections.get_by_name(session, collection)
        row = versions.active(session, owner.id)
    status: dict[str, Any] = {
        "collection": collection,
        "change_number": owner.change_number,
        "active": None,
        "behind": 0,
    }
    if row is not None:
        status["active"] = version_out(row, owner).model_dump(mode="json")
        status["behind"] = owner.change_number - row.change_number
    if as_json:
        print_json(status)
    elif row is None:
        console.print("no index yet: the first document makes one")
    else:
        console.print(
            f"{row.id}: {row.n_documents} documents, {row.n_chunks} chunks, {status['behind']} changes behind"
        )


@index_app.command("verify")
def verify_index(
    version: Annotated[str | None, typer.Argument(help="The version's id; default: the served one.")] = None,
    collection: CollectionOption = "default",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a version: checksums, counts, and the same chunks in database and indexes. Exit code 1 if not."""
    with services_for(home) as services:
        row = _find(services, version, collection)
        found = building.problems(services, row.id)
    shown = [{"kind": item.kind, "path": item.path, "detail": item.detail} for item in found]
    if as_json:
        print_json({"version": row.id, "ok": not found, "problems": shown})
    else:
        for item in found:
            console.print(f"{item.kind}: {item.path}: {item.detail}", markup=False)
        console.print(
            f"{row.id}: " + ("no problem found" if not found else f"{len(found)} problems"), markup=False
        )
    if found:
        raise typer.Exit(1)


@index_app.command("activate")
def activate_index(version: VersionArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Serve a version from the next request on."""
    with services_for(home) as services:
        chosen = _find(services, version, None)
        if chosen.status != "ready":
            raise VersionNotReady(f"the version is {chosen.status}; only a ready one can be served")
        row = building.activate(services, chosen.id)
        _print_version(services, row, as_json)


@index_app.command("rollback")
def rollback_index(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Serve the version that was served before."""
    with services_for(home) as services:
        _print_version(services, building.rollback(services, _collection_id(services, collection)), as_json)


def _with(
    settings: Settings, encoder: str | None, max_tokens: int | None, overlap_tokens: int | None
) -> Settings:
    """The settings with what the command line says instead."""
    encoding = settings.encoder if encoder is None else EncoderSettings(model=encoder)
    given = {"max_tokens": max_tokens, "overlap_tokens": overlap_tokens}
    cutting = ChunkerSettings(
        **settings.chunker.model_dump() | {name: value for name, value in given.items() if value is not None}
    )
    return settings.model_copy(update={"encoder": encoding, "chunker": cutting})


def _collection_id(services: Services, name: str) -> int:
    with services.read() as session:
        return collections.get_by_name(session, name).id


def _find(services: Services, version: str | None, collection: str | None) -> IndexVersionRow:
    with services.read() as session:
        if version is None:
            row = versions.active(session, collections.get_by_name(session, collection or "default").id)
            if row is None:
                fail("there is no index yet: the first document makes one (index_missing)")
            return row
        matching = [row for row in versions.list_all(session) if version and row.id.startswith(version)]
        return matching[0] if len(matching) == 1 else versions.get(session, version)


def _print_version(services: Services, row: IndexVersionRow, as_json: bool) -> None:
    with services.read() as session:
        shown = version_out(row, collections.get(session, row.collection_id))
    if as_json:
        print_json(shown)
    else:
        served = "served" if shown.active else "not served"
        console.print(
            f"{shown.id}: {shown.n_documents} documents, {shown.n_chunks} chunks, {shown.status}, {served}"
        )
