"""Documents, their texts and their chunks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field

from app.api.schemas.base import CollectionName, ErrorBody, Metadata, Request, Response, error_body
from app.api.schemas.jobs import JobOut
from app.db.tables import DocumentRow
from app.ids import format_id
from indexing.types import Chunk

DocumentStatus = Literal["pending", "processing", "ready", "failed"]


class DocumentIn(Request):
    """A document given as text."""

    text: str = Field(
        description="The text; Markdown headings are understood", examples=["# Tea\nWarm the pot."]
    )
    collection: CollectionName = "default"
    source: str | None = Field(
        None,
        max_length=2000,
        description="What identifies the document in its collection; default: its title, or its hash",
    )
    title: str | None = Field(None, max_length=1000)
    metadata: Metadata = Field(default_factory=dict, examples=[{"author": "Ada", "year": 2024}])
    format: str = Field("md", description="The format of the text, as a file extension")


class DocumentPatch(Request):
    title: str | None = Field(None, max_length=1000)
    metadata: Metadata | None = Field(None, description="Replaces the metadata; null values remove a field")


class DocumentOut(Response):
    id: str
    collection: str
    source: str
    title: str | None
    status: DocumentStatus
    error: ErrorBody | None
    content_hash: str
    filename: str | None
    media_type: str | None
    n_bytes: int
    n_chunks: int
    n_pages: int | None
    revision: int
    metadata: Metadata
    created_at: datetime
    updated_at: datetime


class Submitted(Response):
    document: DocumentOut
    job: JobOut | None


class DocumentList(Response):
    data: list[DocumentOut]
    next_cursor: str | None


class PageOut(Response):
    page: int
    start: int
    end: int


class TextOut(Response):
    text: str
    pages: list[PageOut]


class ChunkOut(Response):
    chunk_id: str
    ordinal: int
    start: int
    end: int
    page: int | None
    heading_path: list[str]
    n_tokens: int
    text: str


class ChunkList(Response):
    data: list[ChunkOut]
    next_cursor: str | None = None


def document_out(row: DocumentRow, collection: str) -> DocumentOut:
    return DocumentOut(
        id=format_id(row.id),
        collection=collection,
        source=row.source,
        title=row.title,
        status=row.status,
        error=error_body(row.error_code, row.error_detail),
        content_hash=row.content_hash,
        filename=row.filename,
        media_type=row.media_type,
        n_bytes=row.n_bytes,
        n_chunks=row.n_chunks,
        n_pages=row.n_pages or None,
        revision=row.revision,
        metadata=row.meta,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def chunk_out(chunk: Chunk) -> ChunkOut:
    return ChunkOut(
        chunk_id=format_id(chunk.id),
        ordinal=chunk.ordinal,
        start=chunk.start,
        end=chunk.end,
        page=chunk.page,
        heading_path=list(chunk.heading_path),
        n_tokens=chunk.n_tokens,
        text=chunk.text,
    )


def text_json(parts: Iterable[str], pages: Sequence[Mapping[str, int]]) -> Iterator[str]:
    """The JSON of a `TextOut`, part by part, so that a long text is never held whole.

    >>> "".join(text_json(['say "a', ' b"'], [{"page": 1, "start": 0, "end": 10}]))
    '{"text": "say \\\\"a b\\\\"", "pages": [{"page": 1, "start": 0, "end": 10}]}'
    """
    yield '{"text": "'
    for part in parts:
        yield json.dumps(part, ensure_ascii=False)[1:-1]
    yield f'", "pages": {json.dumps(list(pages))}}}'
