"""Trees of summaries: asked for, looked at, removed."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.api.schemas.base import CollectionName
from app.api.schemas.jobs import IndexBuilding, job_out
from app.api.schemas.trees import TreeOut
from app.db import collections
from app.deps import ServicesDep
from app.errors import NotFound
from app.nodes import trees

router = APIRouter(prefix="/v1/collections/{name}/tree", tags=["trees"])


@router.post("", status_code=202)
def build_tree(services: ServicesDep, name: CollectionName) -> IndexBuilding:
    """Starts a job that grows the tree, or what of it is missing."""
    with services.read() as session:
        owner = collections.get_by_name(session, name).id
    return IndexBuilding(job=job_out(trees.enqueue(services, owner)))


@router.get("")
def get_tree(services: ServicesDep, name: CollectionName) -> TreeOut:
    with services.read() as session:
        owner = collections.get_by_name(session, name).id
    found = trees.status(services, owner)
    if found is None:
        raise NotFound("The collection has no tree of summaries.", code="tree_not_found")
    return TreeOut.model_validate(found)


@router.delete("", status_code=204)
def remove_tree(services: ServicesDep, name: CollectionName) -> Response:
    """Removes the summaries. Documents and chunks stay."""
    with services.read() as session:
        owner = collections.get_by_name(session, name).id
    trees.remove(services, owner)
    return Response(status_code=204)
