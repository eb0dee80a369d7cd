"""Documents: sent in, listed, read, changed, deleted."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from app import purging
from app.api.schemas.base import CollectionName
from app.api.schemas.deletions import Deleted, DeletedMany, DeleteIn, deleted_out, receipt_out
from app.api.schemas.documents import (
    ChunkList,
    DocumentIn,
    DocumentList,
    DocumentOut,
    DocumentPatch,
    DocumentStatus,
    Submitted,
    TextOut,
    chunk_out,
    document_out,
    text_json,
)
from app.api.schemas.jobs import job_out
from app.db import chunks, collections, documents, revisions, versions
from app.db.errors import CursorError
from app.db.filters import compile_filter
from app.deps import ServicesDep
from app.documents import deleting, intake
from app.documents.receipts import read_receipt
from app.errors import InvalidRequest, NotFound, PayloadTooLarge
from app.ids import format_id, parse_id
from app.services import Services
from indexing.types import text_hash

router = APIRouter(prefix="/v1/documents", tags=["documents"])

Metadata = TypeAdapter(dict[str, Any])
Name = TypeAdapter(CollectionName)

UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "collection": {"type": "string", "default": "default"},
                        "source": {
                            "type": "string",
                            "description": "Identifies the document; default: the file's name",
                        },
                        "title": {"type": "string"},
                        "metadata": {
                            "type": "string",
                            "description": "A JSON object",
                            "examples": ['{"year": 2024}'],
                        },
                    },
                }
            },
            "application/json": {"schema": DocumentIn.model_json_schema()},
        },
    }
}


@router.post(
    "", status_code=202, response_model=Submitted, openapi_extra=UPLOAD,
    responses={200: {"model": Submitted, "description": "Same source, same bytes: nothing to do"}},
)  # fmt: skip
async def send_document(request: Request, response: Response, services: ServicesDep) -> Submitted:
    """Takes a file (multipart) or a text (JSON) in; the job makes it searchable.

    The same source with the same bytes changes nothing (200), and `job` is null unless they still wait. With
    new bytes it becomes a new revision, which replaces the old one when it is ready.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        async with request.form() as form:
            submission, stream = _from_form(form)
            accepted = await run_in_threadpool(intake.submit, services, submission, stream)
    else:
        submission, stream = _from_json(await _body(request, services.settings.server.max_json_bytes))
        accepted = await run_in_threadpool(intake.submit, services, submission, stream)
    response.status_code = 200 if accepted.is_same else 202
    return Submitted(
        document=document_out(accepted.document, submission.collection),
        job=job_out(accepted.job) if accepted.job is not None else None,
    )


def _from_form(form: FormData) -> tuple[intake.Submission, BinaryIO]:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InvalidRequest("The form needs a part `file` with a file in it.")
    known = {"file", "collection", "source", "title", "metadata"}
    if unknown := set(form) - known:
        raise InvalidRequest(f"The form has unknown parts: {', '.join(sorted(unknown))}.")
    fields = {name: str(value) for name, value in form.items() if name != "file" and value != ""}
    try:
        metadata = Metadata.validate_json(fields["metadata"]) if "metadata" in fields else None
        collection = Name.validate_python(fields.get("collection", "default"))
    except ValidationError as error:
        raise InvalidRequest(f"{error.error_count()} invalid field: {error.errors()[0]['msg']}") from error
    submission = intake.Submission(
        filename=file.filename or "upload",
        collection=collection,
        source=fields.get("source"),
        title=fields.get("title"),
        media_type=file.content_type,
        metadata=metadata,
    )
    return submission, file.file


async def _body(request: Request, max_bytes: int) -> bytes:
    """The whole body; a text in it is in memory several times before it is kept."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise PayloadTooLarge(f"A text as JSON has at most {max_bytes:,} bytes: send it as a file.")
    return bytes(body)


def _from_json(body: bytes) -> tuple[intake.Submission, BinaryIO]:
    try:
        given = DocumentIn.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = "/" + "/".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{where}: {first['msg']}") from error
    source = given.source or given.title or f"text-{text_hash(given.text)[:16]}"
    submission = intake.Submission(
        filename=f"{source.rsplit('/', 1)[-1]}.{given.format}",
        collection=given.collection,
        source=source,
        title=given.title,
        metadata=given.metadata or None,
    )
    return submission, io.BytesIO(given.text.encode("utf-8", "surrogatepass"))


@router.get("")
def list_documents(
    services: ServicesDep,
    collection: CollectionName = "default",
    status: DocumentStatus | None = None,
    filters: Annotated[str | None, Query(description="A filter as JSON")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: str | None = None,
) -> DocumentList:
    """Documents of a collection, the oldest first."""
    try:
        where = compile_filter(json.loads(filters)) if filters else None
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidRequest(f"`filters` is not JSON: {error}", code="invalid_filter") from error
    with services.read() as session:
        row = collections.get_by_name(session, collection)
        page = documents.list_page(
            session, collection_id=row.id, status=status, where=where, limit=limit, cursor=cursor
        )
    return DocumentList(
        data=[document_out(item, collection) for item in page.items], next_cursor=page.next_cursor
    )


@router.get("/{document_id}")
def get_document(services: ServicesDep, document_id: str) -> DocumentOut:
    return _shown(services, parse_id(document_id, "document"))


@router.patch("/{document_id}")
def patch_document(services: ServicesDep, document_id: str, body: DocumentPatch) -> DocumentOut:
    """Changes title and metadata. Filters see it at once; a new title is indexed by a job."""
    number = parse_id(document_id, "document")
    intake.patch(
        services,
        number,
        title=body.title if "title" in body.model_fields_set else intake.UNSET,
        metadata=body.metadata,
    )
    return _shown(services, number)


@router.delete("/{document_id}")
def delete_document(
    services: ServicesDep,
    document_id: str,
    purge: Annotated[bool, Query(description="Write over the bytes at once, which takes longer")] = False,
) -> Deleted:
    """Deletes a document everywhere, and says what was removed where; no search shows it from now on."""
    receipt = deleting.delete(services, parse_id(document_id, "document"))
    if purge:
        purging.purge(services, collections.id_of(receipt.collection))
        receipt = read_receipt(services, receipt.id)
    return deleted_out(receipt)


@router.post("/delete")
def delete_documents(services: ServicesDep, body: DeleteIn) -> DeletedMany:
    """Deletes the documents that are named by id, by a filter or by a pattern for their sources."""
    wanted = None if body.ids is None else tuple(parse_id(key, "document") for key in body.ids)
    choice = deleting.Choice(
        collection=body.collection, document_ids=wanted, where=body.filters, source=body.source
    )
    found = [document_id for document_id, _ in deleting.chosen(services, choice)]
    owner = collections.id_of(body.collection)
    receipts = [] if body.dry_run else list(deleting.delete_many(services, owner, found))
    if body.purge and receipts:
        purging.purge(services, owner)
        receipts = [read_receipt(services, receipt.id) for receipt in receipts]
    shown = [format_id(key) for key in found]
    if not body.dry_run:
        shown = [key for receipt in receipts for key in receipt.document_ids]
    return DeletedMany(
        n_documents=len(shown), ids=shown, receipts=[receipt_out(receipt) for receipt in receipts]
    )


@router.get("/{document_id}/text", response_model=TextOut)
def get_text(services: ServicesDep, document_id: str) -> StreamingResponse:
    """The canonical text that every `start` and `end` counts in, and where its pages are."""
    with services.read() as session:
        document = documents.get(session, parse_id(document_id, "document"))
        n_parts = revisions.n_text_parts(session, document.id, document.revision)
        pages = documents.pages_of(session, [document.id]).get(document.id, ())
    if not n_parts:
        raise NotFound("The document has no text yet; its status says why.", code="text_not_ready")
    parts = _text_parts(services, document.id, document.revision, n_parts)
    return StreamingResponse(
        text_json(parts, [asdict(page) for page in pages]), media_type="application/json"
    )


def _text_parts(services: Services, document_id: int, number: int, n_parts: int) -> Iterator[str]:
    """Each part from a transaction of its own: a slow reader must hold none open."""
    for position in range(n_parts):
        with services.read() as session:
            part = revisions.text_part(session, document_id, number, position)
        if part is None:
            # The connection breaks off, so that no one takes what was sent for the whole text.
            raise RuntimeError("the document was replaced while its text was sent")
        yield part


@router.get("/{document_id}/chunks")
def get_chunks(
    services: ServicesDep,
    document_id: str,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> ChunkList:
    """The document's chunks in reading order, as the served index holds them."""
    after = -1 if cursor is None else _ordinal(cursor)
    with services.read() as session:
        document = documents.get(session, parse_id(document_id, "document"))
        active = versions.active(session, document.collection_id)
        found = (
            chunks.of_document(
                session,
                document.id,
                chunker=active.chunker_fingerprint,
                after_ordinal=after,
                limit=limit + 1,
            )
            if active
            else []
        )
    more = str(found[limit - 1].ordinal) if len(found) > limit else None
    return ChunkList(data=[chunk_out(chunk) for chunk in found[:limit]], next_cursor=more)


@router.get(
    "/{document_id}/file",
    response_class=FileResponse,
    responses={304: {"description": "The client has it already"}},
)
def get_file(
    services: ServicesDep,
    document_id: str,
    if_none_match: Annotated[str | None, Header(description="ETags that the client has")] = None,
) -> Response:
    """The original file."""
    with services.read() as session:
        document = documents.get(session, parse_id(document_id, "document"))
    path = services.store.path(document.content_hash)
    if not path.is_file():
        raise NotFound("The original file is not in the store.", code="file_not_found")
    tag = f'"{document.content_hash}"'
    if if_none_match is not None and _names_tag(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    # Always a download: an HTML or SVG file of a stranger must not run in the service's origin.
    return FileResponse(
        path,
        filename=PurePosixPath(document.filename or "").name or format_id(document.id),
        media_type="application/octet-stream",
        headers={"ETag": tag},
    )


def _names_tag(given: str, tag: str) -> bool:
    """Whether an `If-None-Match` has a tag, weak or strong (RFC 9110, 13.1.2)."""
    return any(name.strip().removeprefix("W/") in ("*", tag) for name in given.split(","))


def _ordinal(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise CursorError("the cursor was not made by this service")
    return int(cursor)


def _shown(services: Services, document_id: int) -> DocumentOut:
    with services.read() as session:
        document = documents.get(session, document_id)
        collection = collections.get(session, document.collection_id)
    return document_out(document, collection.name)
