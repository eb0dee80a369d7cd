"""Collections: sets of documents that are searched together."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.schemas.base import CollectionName
from app.api.schemas.collections import CollectionIn, CollectionList, CollectionOut, collection_out
from app.api.schemas.deletions import Deleted, receipt_out
from app.db import collections, documents, versions
from app.db.tables import CollectionRow
from app.deps import ServicesDep
from app.documents import deleting
from app.ids import format_id
from app.services import Services

router = APIRouter(prefix="/v1/collections", tags=["collections"])


@router.post("", status_code=201)
def create_collection(services: ServicesDep, body: CollectionIn) -> CollectionOut:
    """Makes an empty collection."""
    with services.write() as session:
        row = collections.create(session, body.name, description=body.description or "")
    return collection_out(row, 0, 0)


@router.get("")
def list_collections(services: ServicesDep) -> CollectionList:
    with services.read() as session:
        rows = collections.list_all(session)
    return CollectionList(data=[_with_counts(services, row) for row in rows])


@router.get("/{name}")
def get_collection(services: ServicesDep, name: CollectionName) -> CollectionOut:
    with services.read() as session:
        row = collections.get_by_name(session, name)
    return _with_counts(services, row)


@router.delete("/{name}")
def delete_collection(services: ServicesDep, name: CollectionName) -> Deleted:
    """Deletes a collection with its documents, their files and its indexes. `default` cannot be deleted."""
    receipt = deleting.delete_collection(services, name)
    return Deleted(
        id=format_id(collections.id_of(name)),
        deleted=True,
        removed={"documents": receipt.rows["documents"], "index_versions": len(receipt.indexes)},
        receipt=receipt_out(receipt),
    )


def _with_counts(services: Services, row: CollectionRow) -> CollectionOut:
    with services.read() as session:
        n_documents = sum(documents.counts(session, collection_id=row.id).values())
        active = versions.active(session, row.id)
    return collection_out(row, n_documents, active.n_chunks if active else 0)
