"""`footnote index …`: versions built, verified, mended, switched, removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from app.api.schemas.indexes import IndexReport, report_out, switched_out, version_out
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
from app.cli.options import check_one_of
from app.cli.progress import progress
from app.db import collections, versions
from app.db.tables import IndexVersionRow
from app.services import Services
from app.upkeep import orders, repairing, switching
from app.upkeep.orders import PRESETS, BuildOrder
from app.upkeep.switching import Switched
from app.versions import building, retention, verifying
from app.versions.verifying import Problem

index_app = typer.Typer(no_args_is_help=True, help="Build, verify, mend and switch index versions.")

VersionArgument = Annotated[str, typer.Argument(help="The version's id, or how it begins.")]
AnyVersionArgument = Annotated[
    str | None, typer.Argument(help="The version's id, or how it begins; default: the served one.")
]
ActivateOption = Annotated[bool, typer.Option(help="Serve the new version when it is verified.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Serve it even if Recall@10 on the golden questions drops.")
]


@index_app.command("build")
def build_index(
    collection: CollectionOption = "default",
    encoder: Annotated[
        str | None, typer.Option(help="`default`, or a sentence-transformers name or folder.")
    ] = None,
    chunker: Annotated[
        str | None,
        typer.Option(help="Sizes of chunks: fine (128 tokens), default, coarse (512, or the window)."),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=16, help="Longest chunk in tokens.")] = None,
    overlap_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens repeated between chunks.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of encoder or chunker for this build; may be repeated. Empty: its default.",
        ),
    ] = None,
    activate: ActivateOption = True,
    force: ForceOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a version beside the one that is served, then switch to it.

    What is not given is as the settings say. Searches go on while it is built. A build that was interrupted,
    with Ctrl-C or by a kill, goes on where it stopped when it is given again.

    Examples:

        footnote index build --encoder BAAI/bge-small-en-v1.5 --no-activate

        footnote index build --chunker fine --set encoder.dim=128
    """
    check_one_of(chunker, PRESETS, "--chunker")
    given = _read_settings(settings or [])
    sizes = {"chunker.max_tokens": max_tokens, "chunker.overlap_tokens": overlap_tokens}
    given |= {key: value for key, value in sizes.items() if value is not None}
    order = BuildOrder(encoder=encoder, chunker=chunker, settings=given)  # type: ignore[arg-type]
    with services_for(home) as services:
        collection_id = _collection_id(services, collection)
        encoder_spec, chunker_spec = orders.checked(services.settings, order).specs(services)
        with progress(errors, quiet=as_json) as say:
            row = building.build(
                services,
                collection_id,
                encoder_spec=encoder_spec,
                chunker_spec=chunker_spec,
                keep_tokens=order.keeps_tokens(services.settings),
                progress=say,
            )
        if activate:
            _print_switched(services, switching.activate(services, row.id, force=force), as_json)
        else:
            _print_version(services, row, as_json)


@index_app.command("rebuild")
def rebuild_index(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Make the served version anew from the database; nothing is encoded twice.

    Example: footnote index rebuild --collection manuals
    """
    with services_for(home) as services:
        row = building.ensure_active(services, _collection_id(services, collection))
        with progress(errors, quiet=as_json) as say:
            row = building.rebuild(services, row, say)
        _print_version(services, switching.replace(services, row.id), as_json)


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
    version: AnyVersionArgument = None,
    collection: CollectionOption = "default",
    every: Annotated[bool, typer.Option("--all", help="Every ready version of every collection.")] = False,
    vectors: Annotated[
        int, typer.Option(min=0, help="How many vectors are compared with the encoder; 0: none.")
    ] = verifying.VECTORS_SAMPLED,
    files: Annotated[bool, typer.Option("--files", help="Look at the original files too.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a version: files, counts, the same chunks everywhere, vectors as the encoder makes them.

    The exit code is 1 where something is wrong; `footnote index repair` mends it.

    Examples:

        footnote index verify

        footnote index verify --all --files --vectors 200
    """
    with services_for(home) as services:
        chosen = _ready(services) if every else [_find(services, version, collection)]
        reports = [
            report_out(verifying.verify(services, row.id, n_vectors=vectors, files=files)) for row in chosen
        ]
        unnamed = verifying.unnamed_directories(services) if every else []
    ok = all(report.ok for report in reports) and not unnamed
    if as_json:
        shown = [report.model_dump(mode="json") for report in reports]
        print_json(
            {"ok": ok, "versions": shown, "problems": [asdict(p) for p in unnamed]} if every else shown[0]
        )
    else:
        _print_problems(unnamed)
        for report in reports:
            _print_report(report)
    if not ok:
        raise typer.Exit(1)


@index_app.command("repair")
def repair_index(
    version: AnyVersionArgument = None,
    collection: CollectionOption = "default",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mend what `verify` finds, without encoding again what is kept.

    A version with damaged files is made anew from the database beside, and takes its place. The exit code is
    1 where something is left that cannot be mended.

    Examples:

        footnote index repair --dry-run

        footnote index repair --collection manuals
    """
    with services_for(home) as services:
        row = _find(services, version, collection)
        with progress(errors, quiet=as_json) as say:
            done = repairing.repair(services, row.id, dry_run=dry_run, progress=say)
    if as_json:
        print_json(asdict(done) | {"dry_run": dry_run})
    else:
        _print_problems(done.found)
        for cure in done.cures:
            console.print(f"{'would be done' if dry_run else 'done'}: {cure}", markup=False)
        if done.replaced_by is not None:
            console.print(f"{done.replaced_by} takes the place of {done.version}", markup=False)
        if not done.found:
            console.print(f"{row.id}: no problem found", markup=False)
    if done.left and not dry_run:
        errors.print(f"left: {'; '.join(problem.detail for problem in done.left)}", markup=False)
        raise typer.Exit(1)


@index_app.command("activate")
def activate_index(
    version: VersionArgument, force: ForceOption = False, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Serve a version from the next request on.

    It is refused where it is damaged, or finds less of the golden questions than the one that is served.

    Example: footnote index activate 3f2a --force
    """
    with services_for(home) as services:
        chosen = _find(services, version, None)
        _print_switched(services, switching.activate(services, chosen.id, force=force), as_json)


@index_app.command("rollback")
def rollback_index(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Serve the version that was served before."""
    with services_for(home) as services:
        switched = switching.rollback(services, _collection_id(services, collection))
        _print_switched(services, switched, as_json)


@index_app.command("prune")
def prune_index(
    collection: CollectionOption = "default",
    keep: Annotated[
        int | None, typer.Option(min=0, help="Ready versions kept beside the served one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the versions that are superfluous, and the chunks that only they needed.

    A worker does so by itself; how many are kept is FOOTNOTE_INDEX_KEEP_VERSIONS.

    Example: footnote index prune --keep 0 --dry-run
    """
    with services_for(home) as services:
        owner = _collection_id(services, collection)
        if dry_run:
            gone = [row.id for row in retention.superfluous(services, owner, keep)]
        else:
            gone = retention.prune(services, owner, keep)
            retention.tidy(services, owner)
    if as_json:
        print_json({"removed": gone, "dry_run": dry_run})
        return
    for version_id in gone:
        console.print(f"{'would remove' if dry_run else 'removed'} {version_id}")
    if not gone:
        console.print("nothing is superfluous")


@index_app.command("delete")
def delete_index(version: VersionArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Remove a version that is not served.

    Example: footnote index delete 3f2a
    """
    with services_for(home) as services:
        row = _find(services, version, None)
        retention.delete(services, row.id)
        retention.tidy(services, row.collection_id)
    print_json({"removed": [row.id]}) if as_json else console.print(f"removed {row.id}")


def _read_settings(given: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE each; an empty value goes back to the default."""
    read: dict[str, Any] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"{item!r} is not KEY=VALUE", param_hint="--set")
        read[key.strip()] = value.strip()
    return read


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


def _ready(services: Services) -> Sequence[IndexVersionRow]:
    with services.read() as session:
        return versions.list_all(session, status="ready")


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


def _print_switched(services: Services, switched: Switched, as_json: bool) -> None:
    if as_json:
        with services.read() as session:
            print_json(switched_out(switched, collections.get(session, switched.row.collection_id)))
        return
    _print_version(services, switched.row, as_json)
    recall = switched.recall
    if recall is not None:
        forced = "; it is served because it was forced" if switched.forced else ""
        console.print(
            f"Recall@10 on golden questions: {recall.before:.3f} before, {recall.after:.3f} now{forced}"
        )


def _print_problems(problems: Sequence[Problem]) -> None:
    for item in problems:
        console.print(f"{item.kind}: {item.path}: {item.detail}", markup=False)


def _print_report(report: IndexReport) -> None:
    for item in report.problems:
        console.print(f"{item.kind}: {item.path}: {item.detail}", markup=False)
    behind = f", {report.behind} changes behind, so chunks were not compared" if report.behind else ""
    said = "no problem found" if report.ok else f"{len(report.problems)} problems"
    console.print(f"{report.version}: {said}{behind}", markup=False)
