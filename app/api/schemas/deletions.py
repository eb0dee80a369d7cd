"""Deletions, and the receipts of them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.api.schemas.base import CollectionName, Filters, Request, Response
from app.documents.receipts import Receipt


class IndexRemovalOut(Response):
    version: str
    n_rows: int = Field(description="Chunks removed: the words and the vector of each")
    n_nodes: int = Field(0, description="Summaries, questions and expansions removed that rested on them")
    change_number: int = Field(description="The last change that the version has followed")
    pending: str | None = Field(description="Why it is not done yet; null where it is")


class ProbeOut(Response):
    mode: str
    n_searches: int
    n_found_before: int
    n_found_after: int


class ReceiptOut(Response):
    """What a deletion removed where; it holds ids and numbers, and neither text nor names of documents."""

    id: str
    kind: Literal["documents", "collection"]
    collection: str
    document_ids: list[str]
    change_number: int
    deleted_at: datetime
    purged_at: datetime | None = Field(description="When the last byte was written over; null before a purge")
    rows: dict[str, int] = Field(description="Rows removed from the database, by table")
    files: dict[str, int] = Field(
        description="Original files removed, and kept because other documents have the same bytes"
    )
    indexes: list[IndexRemovalOut]
    probe: list[ProbeOut] = Field(description="Searches with the documents' own words and vectors")
    pending: list[str] = Field(description="What is still to be done")


class Deleted(Response):
    id: str
    deleted: bool
    removed: dict[str, int]
    receipt: ReceiptOut


class DeletionList(Response):
    data: list[ReceiptOut]
    next_cursor: str | None


class DeleteIn(Request):
    """Which documents are to be deleted; what is given must all hold."""

    collection: CollectionName = "default"
    ids: list[str] | None = Field(None, min_length=1, max_length=1000)
    filters: Filters = None
    source: str | None = Field(
        None, min_length=1, max_length=2000, description="A pattern for the source: `*`, `?`, `[abc]`"
    )
    dry_run: bool = Field(False, description="Only say which documents would be deleted")
    purge: bool = Field(False, description="Write over the bytes at once")


class DeletedMany(Response):
    n_documents: int
    ids: list[str] = Field(description="The documents; with `dry_run` those that would be deleted")
    receipts: list[ReceiptOut]


class PurgeIn(Request):
    collection: CollectionName = "default"


class PurgedOut(Response):
    deletions: list[str] = Field(description="The receipts of which no byte is left")
    n_vectors: int = Field(description="Kept vectors removed that no chunk needs")
    database: str = Field(description="What was done to the database")
    pending: list[str] = Field(description="What was in the way; purge again")


def receipt_out(receipt: Receipt) -> ReceiptOut:
    return ReceiptOut.model_validate(receipt)


def deleted_out(receipt: Receipt) -> Deleted:
    """The receipt of one document; `removed` is the short form."""
    return Deleted(
        id=receipt.document_ids[0],
        deleted=True,
        removed={
            "chunks": receipt.rows["chunks"],
            "revisions": receipt.rows["revisions"],
            "files": receipt.files["removed"],
        },
        receipt=receipt_out(receipt),
    )
