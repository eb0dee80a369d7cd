"""Collections."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from app.api.schemas.base import CollectionName, Request, Response
from app.db.tables import CollectionRow


class CollectionIn(Request):
    name: CollectionName
    description: str | None = Field(None, max_length=2000)


class CollectionOut(Response):
    name: str
    description: str | None
    n_documents: int
    n_chunks: int
    index_version: str | None
    created_at: datetime


class CollectionList(Response):
    data: list[CollectionOut]
    next_cursor: None = Field(None, description="There is one page")


def collection_out(row: CollectionRow, n_documents: int, n_chunks: int) -> CollectionOut:
    return CollectionOut(
        name=row.name,
        description=row.description or None,
        n_documents=n_documents,
        n_chunks=n_chunks,
        index_version=row.active_version_id,
        created_at=row.created_at,
    )
