"""`footnote ingest`: files and folders into a collection."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from app import memory
from app.cli.context import (
    CollectionOption,
    HomeOption,
    JsonOption,
    console,
    errors,
    fail,
    print_json,
    read_object,
    services_for,
)
from app.cli.progress import Say, progress
from app.db import documents
from app.db.errors import DocumentNotFound
from app.documents import intake
from app.files.filing import FILES_A_TRANSACTION, FILES_AT_ONCE, ensure_collection, keep, work
from app.files.folders import Rules, Trouble, chosen, readable
from app.services import Services
from app.store import StoredFile


@dataclass(slots=True)
class Report:
    """What became of the files, by name."""

    ready: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    n_chunks: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "ready": len(self.ready),
            "unchanged": len(self.unchanged),
            "waiting": len(self.waiting),
            "failed": self.failed,
            "n_chunks": self.n_chunks,
        }


def ingest_command(
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders taken with everything in them.")],
    collection: CollectionOption = "default",
    title: Annotated[str | None, typer.Option(help="The title, for a single file.")] = None,
    metadata: Annotated[
        str | None, typer.Option(help="Metadata of every file, as JSON: '{\"year\": 2024}'.")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only files that match, e.g. '*.pdf'; may be repeated.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not files that match; may be repeated.")] = None,
    wait: Annotated[bool, typer.Option(help="Ingest now; --no-wait leaves it to a worker that runs.")] = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take files into a collection and make them searchable.

    A file is known by its absolute path: the same path with the same bytes changes nothing, with new bytes it
    becomes a new revision. Ctrl-C leaves a state from which the same command, or a worker, goes on.

    Examples:

        footnote ingest report.pdf

        footnote ingest docs/ --collection manuals --exclude '*.tmp'
    """
    files = _files(paths, include or [], exclude or [])
    meta = read_object(metadata, "--metadata")
    if not files:
        fail("there is no file at " + ", ".join(str(path) for path in paths))
    if title is not None and len(files) > 1:
        raise typer.BadParameter("a title is for a single file", param_hint="--title")
    with services_for(home) as services:
        memory.keep_below(services.settings.worker.memory_bytes)
        with progress(errors, quiet=as_json) as say:
            report = ingest_files(services, files, collection, title=title, metadata=meta, wait=wait, say=say)
        print_json(report.as_json()) if as_json else print_report(report)
    if report.failed:
        raise typer.Exit(1)


def ingest_files(
    services: Services,
    files: Sequence[tuple[Path, str]],
    collection: str,
    *,
    title: str | None = None,
    metadata: dict[str, Any] | None = None,
    wait: bool = True,
    say: Say,
) -> Report:
    """Takes (path, source) pairs in and, if told to wait, works until they are searchable or have failed."""
    report = Report()
    ensure_collection(services, collection)
    submitted = _accept(services, files, collection, title, metadata, report, say)
    if submitted and wait:
        work(services, submitted, say)
    _collect(services, submitted, report)
    return report


def _accept(
    services: Services,
    files: Sequence[tuple[Path, str]],
    collection: str,
    title: str | None,
    metadata: dict[str, Any] | None,
    report: Report,
    say: Say,
) -> dict[int, str]:
    """Takes the files in, some hundred a transaction; gives the documents that wait for work, by id."""
    submitted: dict[int, str] = {}
    for start in range(0, len(files), FILES_A_TRANSACTION):
        part = files[start : start + FILES_A_TRANSACTION]
        with services.store.adding():
            with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
                kept = list(threads.map(lambda item: keep(services, item[0]), part))
            stored: list[tuple[intake.Submission, StoredFile]] = []
            for (path, source), found in zip(part, kept, strict=True):
                if isinstance(found, Trouble):
                    report.failed.append(asdict(found))
                    continue
                submission = intake.Submission(
                    filename=readable(path.name),
                    collection=collection,
                    source=source,
                    title=title,
                    metadata=metadata,
                )
                stored.append((submission, found.file))
            with services.write() as session:
                taken = intake.accept_all(services, session, stored)
        for (submission, _), document in zip(stored, taken, strict=True):
            source = submission.source or submission.filename
            if document.waits:
                submitted[document.document_id] = source
            else:
                report.unchanged.append(source)
        say("accept", start + len(part), len(files))
    return submitted


def _collect(services: Services, submitted: dict[int, str], report: Report) -> None:
    with services.read() as session:
        for document_id, source in submitted.items():
            try:
                row = documents.get(session, document_id)
            except DocumentNotFound:  # someone deleted it at once
                continue
            if row.status == "ready":
                report.ready.append(source)
                report.n_chunks += row.n_chunks
            elif row.status == "failed":
                report.failed.append(
                    {"source": source, "code": row.error_code or "", "detail": row.error_detail or ""}
                )
            else:
                report.waiting.append(source)


def print_report(report: Report) -> None:
    for failure in report.failed:
        console.print(f"  failed  {failure['source']}: {failure['detail']} ({failure['code']})", markup=False)
    parts = [f"{len(report.ready)} ready ({report.n_chunks} chunks)"]
    parts += [f"{len(report.unchanged)} unchanged"] if report.unchanged else []
    parts += [f"{len(report.waiting)} waiting for a worker"] if report.waiting else []
    parts += [f"{len(report.failed)} failed"] if report.failed else []
    console.print(", ".join(parts), markup=False)


def _files(paths: Sequence[Path], include: Sequence[str], exclude: Sequence[str]) -> list[tuple[Path, str]]:
    for given in paths:
        if not given.exists():
            raise typer.BadParameter(f"{given} does not exist", param_hint="PATH")
    return list(chosen(paths, Rules(tuple(include), tuple(exclude))).items())
