"""`footnote documents …` and `footnote jobs …`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, get_args

import typer
from rich.table import Table
from sqlalchemy.orm import Session

from app import purging
from app.api.schemas.deletions import deleted_out, receipt_out
from app.api.schemas.documents import DocumentStatus, document_out
from app.api.schemas.jobs import JobStatus, job_out
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
from app.cli.options import check_one_of
from app.db import collections, documents, jobs
from app.db.tables import DocumentRow, JobRow
from app.documents import cancelling, deleting
from app.documents.receipts import Receipt, list_receipts, read_receipt
from app.ids import format_id, parse_id
from app.services import Services

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
    check_one_of(status, get_args(DocumentStatus), "--status")
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
def delete_documents(
    document: Annotated[
        list[str] | None, typer.Argument(metavar="DOCUMENT", help="Ids or sources of documents.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help='A filter as JSON: \'{"tag": {"$eq": "old"}}\'.', metavar="JSON")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="A pattern for the source: 'reports/2019/*'.", metavar="GLOB")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Write over the bytes at once; else the next merge does.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting by pattern.")] = False,
    collection: CollectionOption = "default",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete documents everywhere, and say what was removed where.

    No search shows them from now on. The receipt is kept: `footnote documents deletions`. With `--purge` the
    exit code is 1 where something is in the way of that; `footnote documents purge` tries again.

    Example: footnote documents delete --where '{"year": {"$lt": 2015}}' --dry-run
    """
    if bool(document) == bool(where or source):
        raise typer.BadParameter("either name documents, or choose them with --where and --source")
    filters = read_object(where, "--where")
    with services_for(home) as services:
        if document:
            owner, found = _named(services, collection, document)
        else:
            owner = collections.id_of(collection)
            choice = deleting.Choice(collection=collection, where=filters, source=source)
            found = deleting.chosen(services, choice)
        if dry_run:
            _print_chosen(found, as_json)
            return
        if not document and not yes:
            _ask(len(found))
        receipts = list(deleting.delete_many(services, owner, [key for key, _ in found]))
        pending: tuple[str, ...] = ()
        if purge and receipts:
            pending = purging.purge(services, owner).pending
            receipts = [read_receipt(services, receipt.id) for receipt in receipts]
    if as_json:
        print_json(_deleted(receipts, is_one=document is not None and len(document) == 1))
    else:
        for receipt in receipts:
            _print_receipt(receipt)
        if not receipts:
            console.print("no document is meant")
    for line in pending:
        errors.print(f"not purged: {line}", markup=False, soft_wrap=True)
    if pending:
        raise typer.Exit(1)


@documents_app.command("deletions")
def list_deletions(
    deletion: Annotated[str | None, typer.Argument(help="One receipt, in full, by its id.")] = None,
    limit: LimitOption = 50,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Receipts of deletions, the newest first: what was removed where, and what is still to be done."""
    with services_for(home) as services:
        if deletion is not None:
            receipt = read_receipt(services, deletion)
            if as_json:
                print_json(receipt_out(receipt))
            else:
                _print_receipt(receipt)
            return
        page = list_receipts(services, limit=limit)
    if as_json:
        shown = [receipt_out(item).model_dump(mode="json") for item in page.items]
        print_json({"data": shown, "next_cursor": page.next_cursor})
        return
    table = Table("id", "deleted", "collection", "documents", "chunks", "state", box=None, pad_edge=False)
    for item in page.items:
        table.add_row(
            item.id,
            f"{item.deleted_at:%Y-%m-%d %H:%M:%S}",
            item.collection,
            str(item.rows["documents"]),
            str(item.rows["chunks"]),
            "pending" if item.pending else "purged" if item.purged_at else "deleted",
        )
    console.print(table)


@documents_app.command("purge")
def purge_deletions(
    collection: CollectionOption = "default", home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Write over every byte of what was deleted or replaced: in all index versions and in the database.

    It takes as long as copying the database, and writers wait meanwhile. The exit code is 1 where something
    is in the way.
    """
    with services_for(home) as services:
        purged = purging.purge(services, deleting.known_collection(services, collection))
    if as_json:
        print_json(asdict(purged))
    else:
        console.print(f"purged: {len(purged.deletion_ids)} deletions, {purged.n_vectors} kept vectors")
        console.print(purged.database, markup=False)
        for line in purged.pending:
            console.print(f"pending: {line}", markup=False)
    if purged.pending:
        raise typer.Exit(1)


def _named(services: Services, collection: str, named: Sequence[str]) -> tuple[int, list[tuple[int, str]]]:
    """The collection of the documents, and (id, source) of each; an id is found in any one collection."""
    with services.read() as session:
        rows = [_find(session, collection, name) for name in named]
    owners = {row.collection_id for row in rows}
    if len(owners) > 1:
        raise typer.BadParameter("the documents are of several collections; delete them one by one")
    return owners.pop(), [(row.id, row.source) for row in rows]


def _ask(n_documents: int) -> None:
    """Goes on when a person at a terminal says so; without one, `--yes` has to be given."""
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{n_documents} documents would be deleted; add --yes", param_hint="--yes")
    typer.confirm(f"Delete {n_documents} documents?", abort=True)


def _print_chosen(found: Sequence[tuple[int, str]], as_json: bool) -> None:
    if as_json:
        shown = [{"id": format_id(key), "source": source} for key, source in found]
        print_json({"n_documents": len(shown), "data": shown})
        return
    for key, source in found:
        console.print(f"{format_id(key)}  {source}", markup=False, soft_wrap=True)
    console.print(f"{len(found)} documents would be deleted")


def _deleted(receipts: Sequence[Receipt], *, is_one: bool) -> dict[str, Any]:
    """The receipt of one document that was named, else the receipts of all groups."""
    if is_one and receipts:
        return deleted_out(receipts[0]).model_dump(mode="json")
    return {
        "n_documents": sum(receipt.rows["documents"] for receipt in receipts),
        "receipts": [receipt_out(receipt).model_dump(mode="json") for receipt in receipts],
    }


def _print_receipt(receipt: Receipt) -> None:
    rows, files = receipt.rows, receipt.files
    console.print(
        f"deleted: {rows['documents']} documents, {rows['chunks']} chunks, "
        f"{rows.get('revisions', 0)} revisions, {rows['vectors']} kept vectors, {files['removed']} files"
    )
    if files["kept"]:
        console.print(f"kept: {files['kept']} files that {files['kept_for_documents']} other documents have")
    for item in receipt.indexes:
        console.print(f"index {item.version[:8]}: {item.n_rows} rows removed", markup=False)
    for probe in receipt.probe:
        console.print(
            f"probe {probe.mode}: found by {probe.n_found_before} of {probe.n_searches} searches before, "
            f"by {probe.n_found_after} after"
        )
    for line in receipt.pending:
        console.print(f"pending: {line}", markup=False)
    console.print(f"receipt {receipt.id}", end="")
    console.print(f", purged {receipt.purged_at:%Y-%m-%d %H:%M:%S}" if receipt.purged_at else "")


@jobs_app.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="todo, doing, succeeded, failed or cancelled.")] = None,
    limit: LimitOption = 50,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Jobs, the newest first."""
    check_one_of(status, get_args(JobStatus), "--status")
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
