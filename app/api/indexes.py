"""Index versions: listed, built beside the one that is served, verified, mended, switched, removed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from app.api.schemas.indexes import (
    IndexActivateIn,
    IndexBuildIn,
    IndexExpandIn,
    IndexPruned,
    IndexPruneIn,
    IndexReport,
    IndexRollbackIn,
    IndexSwitched,
    IndexVerifyIn,
    IndexVersionList,
    IndexVersionOut,
    report_out,
    switched_out,
    version_out,
)
from app.api.schemas.jobs import IndexBuilding, job_out
from app.db import collections, versions
from app.deps import ServicesDep
from app.nodes import expanding, expansion_writers
from app.services import Services
from app.upkeep import orders, switching, upkeep
from app.upkeep.orders import BuildOrder
from app.upkeep.switching import Switched
from app.versions import retention, verifying

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
def build_version(services: ServicesDep, body: IndexBuildIn | None = None) -> IndexBuilding:
    """Starts to build a new version beside the one that is served, and switches to it when it is verified.

    What is not given is as the settings say. The same order twice is one job while that one lives.
    """
    wanted = body or IndexBuildIn()
    order = BuildOrder(
        encoder=wanted.encoder,
        chunker=wanted.chunker,
        settings=wanted.settings,
        activate=wanted.activate,
        force=wanted.force,
    )
    orders.checked(services.settings, order)
    with services.write() as session:
        owner = collections.get_by_name(session, wanted.collection).id
        key = f"{owner}:{order.key}"
        job = upkeep.start(services, session, upkeep.BUILD, owner, order.payload(), key)
    return IndexBuilding(job=job_out(job))


@router.post("/rollback")
def rollback(services: ServicesDep, body: IndexRollbackIn | None = None) -> IndexSwitched:
    """Serves the version of a collection that was served before."""
    with services.read() as session:
        owner = collections.get_by_name(session, (body or IndexRollbackIn()).collection).id
    return _switched(services, switching.rollback(services, owner))


@router.post("/expand", status_code=202)
def expand_chunks(services: ServicesDep, body: IndexExpandIn | None = None) -> IndexBuilding:
    """Starts a job that makes chunks easier to find; later documents are then expanded too."""
    wanted = body or IndexExpandIn()
    kind = expanding.KINDS[wanted.kind]
    if not wanted.remove:
        expansion_writers.chosen_how(services, kind)  # refused before there is a job
    payload = {"expand": kind, "remove": wanted.remove}
    with services.write() as session:
        owner = collections.get_by_name(session, wanted.collection).id
        key = f"{owner}:{kind}:{wanted.remove}"
        job = upkeep.start(services, session, upkeep.EXPAND, owner, payload, key)
    return IndexBuilding(job=job_out(job))


@router.post("/prune")
def prune_versions(services: ServicesDep, body: IndexPruneIn | None = None) -> IndexPruned:
    """Removes versions that are superfluous: failed ones, and ready ones beyond those to be kept."""
    wanted = body or IndexPruneIn()
    with services.read() as session:
        owner = collections.get_by_name(session, wanted.collection).id
    if wanted.dry_run:
        return IndexPruned(removed=[row.id for row in retention.superfluous(services, owner, wanted.keep)])
    return IndexPruned(removed=retention.prune(services, owner, wanted.keep))


@router.get("/{version_id}")
def get_version(services: ServicesDep, version_id: str) -> IndexVersionOut:
    with services.read() as session:
        row = versions.get(session, version_id)
        return version_out(row, collections.get(session, row.collection_id))


@router.delete("/{version_id}", status_code=204)
def delete_version(services: ServicesDep, version_id: str) -> Response:
    """Removes a version that is not served."""
    retention.delete(services, version_id)
    return Response(status_code=204)


@router.post("/{version_id}/activate")
def activate_version(
    services: ServicesDep, version_id: str, body: IndexActivateIn | None = None
) -> IndexSwitched:
    """Serves a version from the next request on, once it has caught up with later changes and is sound."""
    force = body is not None and body.force
    return _switched(services, switching.activate(services, version_id, force=force))


@router.get("/{version_id}/verify")
def look_at_version(services: ServicesDep, version_id: str) -> IndexReport:
    """A quick look: whether files are missing or cut, and whether index and database have the same chunks."""
    return report_out(verifying.quick(services, version_id))


@router.post("/{version_id}/verify", status_code=202)
def verify_version(
    services: ServicesDep, version_id: str, body: IndexVerifyIn | None = None
) -> IndexBuilding:
    """Starts a job that looks at everything; its result is the report."""
    wanted = body or IndexVerifyIn()
    payload = {"version": version_id, "vectors": wanted.vectors, "files": wanted.files}
    return _start(services, upkeep.VERIFY, version_id, payload)


@router.post("/{version_id}/repair", status_code=202)
def repair_version(services: ServicesDep, version_id: str) -> IndexBuilding:
    """Starts a job that mends what is wrong; its result says what was found, done, and left."""
    return _start(services, upkeep.REPAIR, version_id, {"version": version_id})


def _start(services: Services, kind: str, version_id: str, payload: dict[str, Any]) -> IndexBuilding:
    key = ":".join(str(value) for value in payload.values())
    with services.write() as session:
        owner = versions.get(session, version_id).collection_id
        job = upkeep.start(services, session, kind, owner, payload, key)
    return IndexBuilding(job=job_out(job))


def _switched(services: Services, switched: Switched) -> IndexSwitched:
    with services.read() as session:
        return switched_out(switched, collections.get(session, switched.row.collection_id))
