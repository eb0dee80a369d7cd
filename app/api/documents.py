"""Documents: sent in, listed, read, changed, deleted."""

from __future__ import annotations

import io
import json
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from app import intake
from app.api.schemas import (
    ChunkList,
    CollectionName,
    Deleted,
    DocumentIn,
    DocumentList,
    DocumentOut,
    DocumentPatch,
    DocumentStatus,
    PageOut,
    Submitted,
    TextOut,
)
from app.api.views import chunk_out, document_out, job_out
from app.db import chunks, collections, documents, versions
from app.db.filters import compile_filter
from app.deps import ServicesDep
from app.errors import InvalidRequest, NotFound
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

    The same source with the same bytes changes nothing (200). With new bytes it becomes a new revision, which
    replaces the old one when it is ready.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form() as form:
            submission, stream = _from_form(form)
            accepted = await run_in_threadpool(intake.submit, services, submission, stream)
    else:
        submission, stream = _from_json(await request.body())
        accepted = await run_in_threadpool(intake.submit, services, submission, stream)
    response.status_code = 202 if accepted.job is not None else 200
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
def delete_document(services: ServicesDep, document_id: str) -> Deleted:
    """Deletes a document: no search shows it from now on, and the index forgets it with its next commit."""
    removed = intake.delete(services, parse_id(document_id, "document"))
    return Deleted(
        id=document_id,
        deleted=True,
        removed={
            "chunks": removed.n_chunks,
            "revisions": removed.n_revisions,
            "files": len(removed.content_hashes),
        },
    )


@router.get("/{document_id}/text")
def get_text(services: ServicesDep, document_id: str) -> TextOut:
    """The canonical text that every `start` and `end` counts in, and where its pages are."""
    with services.read() as session:
        document = documents.get(session, parse_id(document_id, "document"))
        revision = (
            documents.get_revision(session, document.id, document.revision) if document.revision else None
        )
    if revision is None or revision.text is None:
        raise NotFound("The document has no text yet; its status says why.", code="text_not_ready")
    return TextOut(text=revision.text, pages=[PageOut(**page) for page in revision.pages])


@router.get("/{document_id}/chunks")
def get_chunks(services: ServicesDep, document_id: str) -> ChunkList:
    """The document's chunks in reading order, as the served index holds them."""
    with services.read() as session:
        document = documents.get(session, parse_id(document_id, "document"))
        active = versions.active(session, document.collection_id)
        found = chunks.of_document(session, document.id, chunker=active.chunker_fingerprint) if active else []
    return ChunkList(data=[chunk_out(chunk) for chunk in found])


@router.get("/{document_id}/file", response_class=FileResponse)
def get_file(services: ServicesDep, document_id: str) -> FileResponse:
    """The original file."""
    with services.read() as session:
        document = documents.get(session, parse_id(document_id, "document"))
    path = services.store.path(document.content_hash)
    if not path.is_file():
        raise NotFound("The original file is not in the store.", code="file_not_found")
    # Always a download: an HTML or SVG file of a stranger must not run in the service's origin.
    return FileResponse(
        path, filename=document.filename or format_id(document.id), media_type="application/octet-stream"
    )


def _shown(services: Services, document_id: int) -> DocumentOut:
    with services.read() as session:
        document = documents.get(session, document_id)
        collection = collections.get(session, document.collection_id)
    return document_out(document, collection.name)
