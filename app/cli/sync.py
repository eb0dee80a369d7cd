"""`footnote sync`: a collection that mirrors a folder."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Annotated, Any

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
from app.cli.progress import progress
from app.errors import FootnoteError
from app.files import sync_plans, syncing
from app.files.folders import Rules
from app.files.sync_plans import Estimate, Options, Plan
from app.files.syncing import Report
from app.files.watching import watch
from app.services import Services

SHOWN = 20
"""Names printed of each kind; `--json` has all."""


def sync_command(
    folder: Annotated[
        Path, typer.Argument(help="The folder that the collection is to mirror.", file_okay=False)
    ],
    collection: CollectionOption = "default",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and how long it would take.")
    ] = False,
    watching: Annotated[
        bool, typer.Option("--watch", help="Go on, and follow changes until Ctrl-C.")
    ] = False,
    delete: Annotated[bool, typer.Option(help="Delete documents whose file is gone.")] = True,
    include: Annotated[
        list[str] | None, typer.Option(help="Only files that match, e.g. '*.pdf'; may be repeated.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not files that match; may be repeated.")] = None,
    checksum: Annotated[
        bool, typer.Option("--checksum", help="Read every file, also where size and time are as before.")
    ] = False,
    max_delete: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the synced documents that may go. [default: 0.5]"),
    ] = None,
    force: Annotated[bool, typer.Option("--yes", help="Delete however many are gone.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a collection mirror a folder: new, changed, renamed and deleted files.

    Only documents that a sync took from this folder are ever deleted. A renamed file keeps its title, its
    metadata and its vectors. Hidden files are left out, and what --include and --exclude leave out is neither
    taken nor deleted. Ctrl-C leaves a state from which the same command goes on.

    Examples:

        footnote sync docs/ --dry-run

        footnote sync docs/ --collection manuals --exclude '*.tmp' --watch
    """
    if watching and dry_run:
        raise typer.BadParameter("a dry run ends at once", param_hint="--watch")
    if watching and as_json:
        raise typer.BadParameter("a watch prints no single document", param_hint="--json")
    with services_for(home) as services:
        options = Options(
            rules=Rules(tuple(include or ()), tuple(exclude or ())),
            checksum=checksum,
            delete=delete,
            max_delete=services.settings.sync.max_delete if max_delete is None else max_delete,
            force=force,
        )
        if watching:
            _watch(services, collection, folder, options)
            return
        if dry_run:
            made = sync_plans.plan(services, collection, folder, options)
            _print_plan(made, sync_plans.estimate(services, made), as_json)
            made.check(options)
            return
        with progress(errors, quiet=as_json) as say:
            report = syncing.sync(services, collection, folder, options, say=say, on_wait=_say_waiting)
    print_json(_report_json(report)) if as_json else _print_report(report)
    if report.failed:
        raise typer.Exit(1)


def _watch(services: Services, collection: str, folder: Path, options: Options) -> None:
    def on_report(report: Report) -> None:
        if report.added or report.changed or report.renamed or report.deleted or report.failed:
            _print_report(report)

    def on_trouble(error: FootnoteError) -> None:
        errors.print(f"waiting: {error} ({error.code})", markup=False, soft_wrap=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    errors.print(f"following {folder}; Ctrl-C ends it", markup=False)
    try:
        with progress(errors, quiet=True) as say:
            watch(
                services,
                collection,
                folder,
                options,
                Event(),
                on_report=on_report,
                on_trouble=on_trouble,
                say=say,
            )
    except KeyboardInterrupt:
        errors.print("stopped")


def _say_waiting() -> None:
    errors.print("another sync of this collection is running; waiting for it")


def _plan_json(made: Plan, cost: Estimate) -> dict[str, Any]:
    return {
        "add": [file.source for file in made.add],
        "change": [file.source for file in made.change],
        "rename": [{"from": one.before.source, "to": one.file.source} for one in made.rename],
        "delete": [document.source for document in made.delete],
        "unchanged": len(made.unchanged),
        "failed": [asdict(item) for item in made.trouble],
        "n_bytes": cost.n_bytes,
        "n_chunks_estimated": cost.n_chunks,
        "n_chunks_deleted": sum(document.n_chunks for document in made.delete),
        "seconds_estimated": round(cost.seconds, 1),
        "estimate_from": "past jobs" if cost.is_measured else "defaults",
    }


def _print_plan(made: Plan, cost: Estimate, as_json: bool) -> None:
    if as_json:
        print_json(_plan_json(made, cost))
        return
    _print_names("add", [file.source for file in made.add])
    _print_names("change", [file.source for file in made.change])
    _print_names("rename", [f"{one.before.source} → {one.file.source}" for one in made.rename])
    _print_names("delete", [document.source for document in made.delete])
    _print_names("unreadable", [f"{item.source}: {item.detail}" for item in made.trouble])
    console.print(
        f"{len(made.add)} to add, {len(made.change)} to change, {len(made.rename)} to rename, "
        f"{len(made.delete)} to delete, {len(made.unchanged)} unchanged"
    )
    console.print(
        f"{cost.n_bytes:,} bytes to read, about {cost.n_chunks:,} chunks and {cost.seconds:,.0f} s "
        f"({'as past jobs went' if cost.is_measured else 'by default rates, without past jobs'})"
    )


def _report_json(report: Report) -> dict[str, Any]:
    return {
        "added": report.added,
        "changed": report.changed,
        "renamed": [{"from": before, "to": after} for before, after in report.renamed],
        "deleted": report.deleted,
        "unchanged": report.n_unchanged,
        "failed": [asdict(item) for item in report.failed],
        "failed_before": report.n_failed_before,
        "n_chunks": report.n_chunks,
    }


def _print_report(report: Report) -> None:
    _print_names("renamed", [f"{before} → {after}" for before, after in report.renamed])
    _print_names("deleted", report.deleted)
    for item in report.failed:
        console.print(f"  failed  {item.source}: {item.detail} ({item.code})", markup=False, soft_wrap=True)
    parts = [
        f"{len(report.added)} added",
        f"{len(report.changed)} changed",
        f"{len(report.renamed)} renamed",
        f"{len(report.deleted)} deleted",
        f"{report.n_unchanged} unchanged",
    ]
    parts += [f"{report.n_failed_before} of them failed before"] if report.n_failed_before else []
    parts += [f"{len(report.failed)} failed"] if report.failed else []
    console.print(f"{', '.join(parts)} ({report.n_chunks} chunks)", markup=False)


def _print_names(kind: str, names: Sequence[str]) -> None:
    for name in names[:SHOWN]:
        console.print(f"  {kind}  {name}", markup=False, soft_wrap=True)
    if len(names) > SHOWN:
        console.print(f"  {kind}  … and {len(names) - SHOWN} more; --json names all", markup=False)
