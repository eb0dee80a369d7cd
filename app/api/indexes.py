"""Index versions: listed, built beside the one that is served, switched."""

from __future__ import annotations

from fastapi import APIRouter

from app import building
from app.api.schemas import IndexBuildIn, IndexBuilding, IndexVersionList, IndexVersionOut
from app.api.views import job_out, version_out
from app.db import collections, jobs, versions
from app.deps import ServicesDep
from app.worker import BUILD

router = APIRouter(prefix="/v1/indexes", tags=["indexes"])


@router.get("")
def list_versions(services: ServicesDep, collection: str | None = None) -> IndexVersionList:
    """Index versions, the newest first."""
    with services.read() as session:
        by_id = {row.id: row for row in collections.list_all(session)}
        wanted = collections.get_by_name(session, collection).id if collection is not None else None
        rows = versions.list_all(session, collection_id=wanted)
    return IndexVersionList(data=[version_out(row, by_id[row.collection_id]) for row in rows])


@router.post("", status_code=202)
def build_version(services: ServicesDep, body: IndexBuildIn) -> IndexBuilding:
    """Starts to build a new version with the present settings, and switches to it when it is verified."""
    with services.write() as session:
        row = collections.get_by_name(session, body.collection)
        job = jobs.enqueue(
            session,
            BUILD,
            payload={"activate": body.activate},
            collection_id=row.id,
            dedup_key=f"{BUILD}:{row.id}",
        ).job
    return IndexBuilding(job=job_out(job))


@router.post("/{version_id}/activate")
def activate_version(services: ServicesDep, version_id: str) -> IndexVersionOut:
    """Serves a version from the next request on, once it has caught up with later changes."""
    row = building.activate(services, version_id)
    with services.read() as session:
        return version_out(row, collections.get(session, row.collection_id))
