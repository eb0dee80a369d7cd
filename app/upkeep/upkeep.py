"""The work on index versions: what jobs ask for, and what is done when none does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from app.db import collections, jobs, versions
from app.db.tables import IndexVersionRow, JobRow
from app.documents import intake
from app.errors import Unavailable
from app.learning import tuning
from app.nodes import expanding, trees
from app.upkeep import repairing, switching
from app.upkeep.orders import BuildOrder
from app.upkeep.switching import Switched
from app.versions import building, nodes, retention, rotations, verifying
from app.versions.building import Say
from indexing.chunking import ChunkerSpec
from indexing.encoding.factory import EncoderSpec
from indexing.errors import EncoderError, IndexVersionError
from indexing.manifest import load_manifest
from indexing.merging import merge_due, merge_version
from retrievers.fused import FusionSpec

if TYPE_CHECKING:
    from app.services import Services

BUILD = "build"
VERIFY = "verify"
REPAIR = "repair"
EXPAND = "expand"
TUNE = "tune"

Handler = Callable[["Services", JobRow, Say], Mapping[str, Any]]
"""Does what a job asks for and gives the job's result; may be run twice."""

PAUSE_SECONDS = 60.0
"""Between two looks at what is superfluous."""
ORPHANS_PAUSE_SECONDS = 3600.0


def start(
    services: Services,
    session: Session,
    kind: str,
    collection_id: int,
    payload: Mapping[str, Any],
    key: str,
) -> JobRow:
    """Puts a job of one of these kinds in the queue; gives the one that waits where it has the same key."""
    return jobs.enqueue(
        session,
        kind,
        payload=payload,
        collection_id=collection_id,
        dedup_key=f"{kind}:{key}",
        max_attempts=services.settings.worker.max_attempts,
    ).job


def build(services: Services, job: JobRow, say: Say) -> Mapping[str, Any]:
    order = BuildOrder.of(job.payload)
    try:
        specs = order.specs(services)
    except EncoderError as error:
        # The order names a model that is not here, or what it cannot do: minutes of attempts change neither.
        raise Unavailable(str(error), code=error.code) from error
    row = _built_before(services, job, *specs)
    if row is None:
        encoder_spec, chunker_spec = specs
        row = building.build(
            services,
            int(job.collection_id or 0),
            encoder_spec=encoder_spec,
            chunker_spec=chunker_spec,
            keep_tokens=order.keeps_tokens(services.settings),
            progress=say,
        )
    result: dict[str, Any] = {"index_version": row.id}
    if order.activate:
        result |= recall_of(switching.activate(services, row.id, force=order.force))
    return result


def recall_of(switched: Switched) -> dict[str, Any]:
    """What is to be told of a switch beside the version."""
    recall = switched.recall
    return {
        "recall_before": None if recall is None else recall.before,
        "recall_after": None if recall is None else recall.after,
        "forced": switched.forced,
    }


def _built_before(
    services: Services, job: JobRow, encoder_spec: EncoderSpec, chunker_spec: ChunkerSpec
) -> IndexVersionRow | None:
    """The version that an earlier attempt at this job finished, before its worker was killed."""
    with services.read() as session:
        ready = versions.list_all(session, collection_id=job.collection_id, status="ready")
    for row in ready:
        same = row.chunker_fingerprint == chunker_spec.fingerprint and rotations.made_for(row, encoder_spec)
        if same and job.attempts > 1 and row.created_at >= job.created_at:
            return row
    return None


def verify(services: Services, job: JobRow, _say: Say) -> Mapping[str, Any]:
    wanted = job.payload
    report = verifying.verify(services, wanted["version"], n_vectors=wanted["vectors"], files=wanted["files"])
    return asdict(report) | {"ok": report.ok}


def repair(services: Services, job: JobRow, say: Say) -> Mapping[str, Any]:
    return asdict(repairing.repair(services, job.payload["version"], progress=say))


def expand(services: Services, job: JobRow, say: Say) -> Mapping[str, Any]:
    return expanding.work(services, int(job.collection_id or 0), job.payload, say)


def tree(services: Services, job: JobRow, say: Say) -> Mapping[str, Any]:
    return asdict(trees.build(services, int(job.collection_id or 0), say))


def tune(services: Services, job: JobRow, say: Say) -> Mapping[str, Any]:
    with services.read() as session:
        name = collections.get(session, int(job.collection_id or 0)).name
    wanted = dict(job.payload)
    fusion = wanted.pop("fusion", None)
    spec = None if fusion is None else FusionSpec.of_values(fusion)
    return asdict(tuning.tune(services, name, **wanted, fusion=spec, progress=say))


HANDLERS: Mapping[str, Handler] = {
    BUILD: build,
    VERIFY: verify,
    REPAIR: repair,
    EXPAND: expand,
    trees.TREE: tree,
    TUNE: tune,
}


def merge(services: Services, version_id: str, stop: Callable[[], bool] = lambda: False) -> bool:
    """Merges segments of a version where that is due; whether any were. One that is gone has none."""
    directory = services.settings.indexes_dir / version_id
    of_nodes = [path for _, path in nodes.present(services, version_id)]
    return any(_merge(path, stop) for path in (directory, *of_nodes))


def _merge(directory: Path, stop: Callable[[], bool]) -> bool:
    try:
        return merge_due(load_manifest(directory)) and merge_version(directory, stop=stop)
    except IndexVersionError:
        return False  # whoever serves or mends it says so


def merge_served(services: Services, stop: Callable[[], bool]) -> bool:
    """Merges segments of the first served version that has some to merge."""
    with services.read() as session:
        served = versions.served(session)
    return any(merge(services, version_id, stop) for version_id in served if not stop())


class Upkeep:
    """What a worker does for the indexes when no job waits: one thing at a time, each soon over."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._keeping = expanding.Keeping(services)
        self._tidied = 0.0
        self._orphans = time.monotonic()
        self._swept = -math.inf

    def step(self, stop: Callable[[], bool]) -> bool:
        """Does the next thing that is due; False when none was. `stop` is asked now and then."""
        now = time.monotonic()
        if now - self._tidied >= PAUSE_SECONDS:
            self._tidied = now
            return self._tidy(stop)
        if merge_served(self._services, stop):
            return True
        if self._keeping.step(stop):
            return True
        if now - self._orphans >= ORPHANS_PAUSE_SECONDS:
            self._orphans = now
            return retention.forget_orphans(self._services, verifying.GRACE_SECONDS, stop) > 0
        if now - self._swept >= ORPHANS_PAUSE_SECONDS:
            self._swept = now
            return intake.sweep_files(self._services, stop) > 0
        return False

    def _tidy(self, stop: Callable[[], bool]) -> bool:
        with self._services.read() as session:
            ids = [row.id for row in collections.list_all(session)]
        gone: list[str] = []
        for collection_id in ids:
            if stop():
                break
            gone += retention.prune(self._services, collection_id)
            retention.tidy(self._services, collection_id, stop)
        trees.keep_up(self._services)
        return bool(gone)
