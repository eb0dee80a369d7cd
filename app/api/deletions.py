"""Receipts of deletions, and the purge that writes over what was deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app import purging
from app.api.schemas.base import CollectionName
from app.api.schemas.deletions import DeletionList, PurgedOut, PurgeIn, ReceiptOut, receipt_out
from app.db import collections
from app.deps import ServicesDep
from app.documents import deleting
from app.documents.receipts import list_receipts, read_receipt

router = APIRouter(prefix="/v1/deletions", tags=["deletions"])


@router.get("")
def list_deletions(
    services: ServicesDep,
    collection: CollectionName | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: str | None = None,
) -> DeletionList:
    """Receipts, the newest first, also of collections that are gone."""
    owner = None if collection is None else collections.id_of(collection)
    page = list_receipts(services, collection_id=owner, limit=limit, cursor=cursor)
    return DeletionList(data=[receipt_out(item) for item in page.items], next_cursor=page.next_cursor)


@router.get("/{deletion_id}")
def get_deletion(services: ServicesDep, deletion_id: str) -> ReceiptOut:
    """A receipt as of now: what was pending and has been done since is pending no more."""
    return receipt_out(read_receipt(services, deletion_id))


@router.post("/purge")
def purge_deletions(services: ServicesDep, body: PurgeIn | None = None) -> PurgedOut:
    """Writes over every byte of what was deleted from a collection or replaced; this can take minutes."""
    wanted = body or PurgeIn()
    purged = purging.purge(services, deleting.known_collection(services, wanted.collection))
    return PurgedOut(
        deletions=list(purged.deletion_ids),
        n_vectors=purged.n_vectors,
        database=purged.database,
        pending=list(purged.pending),
    )
