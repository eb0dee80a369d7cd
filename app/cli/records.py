"""`footnote documents …` and `footnote jobs …`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy.orm import Session

from app import cancelling, intake
from app.api.schemas import Deleted
from app.api.views import document_out, job_out
from app.cli.context import CollectionOption, HomeOption, JsonOption, console, print_json, services_for
from app.db import collections, documents, jobs
from app.db.tables import DocumentRow, JobRow
from app.ids import format_id, parse_id

documents_app = typer.Typer(no_args_is_help=True, help="List, show and delete documents.")
jobs_app = typer.Typer(no_args_is_help=True, help="List, show, retry and cancel jobs.")

LimitOption = Annotated[int, typer.Option(min=1, max=100_000, help="At most this many.")]
DocumentArgument = Annotated[str, typer.Argument(help="The document's id, or its source.")]
JobArgument = Annotated[str, typer.Argument(help="The job's id.")]


@documents_app.command("list")
def list_documents(
    collection: CollectionOption = "default",
    status: Annotated[str | None, typer.Option(help="pending, processing, ready or failed.")] = None,
    limit: LimitOption = 100,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """The documents of a collection, the oldest first."""
    if status not in (None, "pending", "processing", "ready", "failed"):
        raise typer.BadParameter("one of pending, processing, ready, failed", param_hint="--status")
    with services_for(home) as services, services.read() as session:
        row = collections.get_by_name(session, collection)
        page = documents.list_page(session, collection_id=row.id, status=status, limit=limit)  # type: ignore[arg-type]
    shown = [document_out(item, collection) for item in page.items]
    if as_json:
        print_json(
            {"data": [item.model_dump(mode="json") for item in shown], "next_cursor": page.next_cursor}
        )
        return
    table = Table("id", "status", "chunks", "rev.", "title", "source", box=None, pad_edge=False)
    for item in shown:
        status_text = item.status if item.error is None else f"{item.status}: {item.error.code}"
        table.add_row(
            item.id, status_text, str(item.n_chunks), str(item.revision), item.title or "", item.source
        )
    console.print(table)
    if page.next_cursor:
        console.print(f"… more than {limit}; ask for more with --limit")


@documents_app.command("show")
def show_document(
    document: DocumentArgument,
    collection: CollectionOption = "default",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """One document with its status."""
    with services_for(home) as services, services.read() as session:
        row = _find(session, collection, document)
        shown = document_out(row, collections.get(session, row.collection_id).name)
    if as_json:
        print_json(shown)
        return
    for name, value in shown.model_dump(mode="json").items():
        console.print(f"{name:>14}  {value}", markup=False)


@documents_app.command("delete")
def delete_document(
    document: DocumentArgument,
    collection: CollectionOption = "default",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a document: its text, chunks and file; no search shows it from now on."""
    with services_for(home) as services:
        with services.read() as session:
            document_id = _find(session, collection, document).id
        removed = intake.delete(services, document_id)
    receipt = Deleted(
        id=format_id(document_id),
        deleted=True,
        removed={
            "chunks": removed.n_chunks,
            "revisions": removed.n_revisions,
            "files": len(removed.content_hashes),
        },
    )
    if as_json:
        print_json(receipt)
    else:
        console.print(
            f"deleted: {removed.n_chunks} chunks, {removed.n_revisions} revisions, "
            f"{len(removed.content_hashes)} files"
        )


@jobs_app.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="todo, doing, succeeded, failed or cancelled.")] = None,
    limit: LimitOption = 50,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Jobs, the newest first."""
    if status not in (None, "todo", "doing", "succeeded", "failed", "cancelled"):
        raise typer.BadParameter("one of todo, doing, succeeded, failed, cancelled", param_hint="--status")
    with services_for(home) as services, services.read() as session:
        page = jobs.list_page(session, status=status, limit=limit)  # type: ignore[arg-type]
    shown = [job_out(row) for row in page.items]
    if as_json:
        print_json(
            {"data": [item.model_dump(mode="json") for item in shown], "next_cursor": page.next_cursor}
        )
        return
    table = Table("id", "kind", "status", "attempts", "progress", "error", box=None, pad_edge=False)
    for item in shown:
        done, total, note = (item.progress[key] for key in ("done", "total", "note"))
        progress = f"{note or ''} {done}/{total}" if total else ""
        error = f"{item.error.code}: {item.error.detail}" if item.error else ""
        table.add_row(
            item.id, item.kind, item.status, f"{item.attempts}/{item.max_attempts}", progress, error
        )
    console.print(table)


@jobs_app.command("show")
def show_job(job: JobArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """One job."""
    with services_for(home) as services, services.read() as session:
        _print_job(jobs.get(session, job), as_json)


@jobs_app.command("retry")
def retry_job(job: JobArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Put a failed or cancelled job back in the queue."""
    with services_for(home) as services, services.write() as session:
        _print_job(cancelling.retry(session, job), as_json)


@jobs_app.command("cancel")
def cancel_job(job: JobArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Cancel a waiting job at once; a running one stops at its next step."""
    with services_for(home) as services, services.write() as session:
        _print_job(cancelling.cancel(session, job), as_json)


def _print_job(row: JobRow, as_json: bool) -> None:
    shown = job_out(row)
    if as_json:
        print_json(shown)
        return
    for name, value in shown.model_dump(mode="json").items():
        console.print(f"{name:>14}  {value}", markup=False)


def _find(session: Session, collection: str, document: str) -> DocumentRow:
    """By id, else by source within the collection."""
    row = documents.get_by_source(session, collections.get_by_name(session, collection).id, document)
    return row if row is not None else documents.get(session, parse_id(document, "document"))
