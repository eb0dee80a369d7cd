"""Which version of a collection is served: one pointer in the database, switched when all is ready for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.db import collections, versions
from app.db.errors import VersionNotReady
from app.db.tables import IndexVersionRow
from app.errors import Conflict
from app.learning import golden
from app.versions import retention, verifying
from app.versions.following import commit_pending
from indexing.errors import IndexVersionError
from indexing.files import checkpoint

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)

SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Recall@10 on the collection's golden questions, of the version served and of the one to be served."""

    before: float
    after: float
    margin: float

    @property
    def dropped(self) -> bool:
        return self.after < self.before - self.margin


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """The version that is served now; `recall` where it was measured, `forced` where that was overruled."""

    row: IndexVersionRow
    recall: Recall | None = None

    @property
    def forced(self) -> bool:
        return self.recall is not None and self.recall.dropped


def activate(services: Services, version_id: str, *, force: bool = False) -> Switched:
    """Serves a version from the next request on, once it has caught up with later changes and is sound.

    Where the collection has golden questions, their Recall@10 must not drop by more than the margin that is
    set; `force` serves the version all the same. Raises VersionNotReady, and Conflict
    (`index_version_damaged`, `recall_dropped`).
    """
    row = _prepared(services, version_id)
    recall = _recall(services, row)
    if recall is not None and recall.dropped and not force:
        raise Conflict(
            f"Recall@10 on the golden questions would drop from {recall.before:.3f} to {recall.after:.3f}, "
            f"by more than {recall.margin:g}; to serve the version all the same, force it.",
            code="recall_dropped",
        )
    return Switched(row=_switch(services, version_id), recall=recall)


def rollback(services: Services, collection_id: int) -> Switched:
    """Serves the version that was served before. Raises Conflict where there is none.

    It is looked at as for `activate`, but golden questions are not asked: who goes back has a reason.
    """
    with services.read() as session:
        row = versions.previous(session, collection_id)
    if row is None:
        raise Conflict("There is no earlier index version to go back to.", code="no_previous_version")
    _prepared(services, row.id)
    return Switched(row=_switch(services, row.id))


def replace(services: Services, version_id: str) -> IndexVersionRow:
    """Serves a version that was made from the same database with the same recipe as the one it replaces."""
    return _switch(services, _prepared(services, version_id).id)


def _prepared(services: Services, version_id: str) -> IndexVersionRow:
    """The version, caught up, sound, and open in this process, so that no request waits for that."""
    with services.read() as session:
        row = versions.get(session, version_id)
    if row.status != "ready":
        raise VersionNotReady(f"the version is {row.status}; only a ready one can be served")
    try:
        commit_pending(services, version_id)
        found = "; ".join(
            f"{item.path}: {item.detail}" for item in verifying.quick_problems(services, row)[:SHOWN]
        )
        if not found:
            services.indexes.open(version_id)
    except IndexVersionError as error:
        logger.exception("index version refused", extra={"action": "index_refused", "version": version_id})
        found = error.code
    if found:
        raise Conflict(
            f"The version is damaged and is not served ({found}); `footnote index repair` mends it.",
            code="index_version_damaged",
        )
    return row


def _recall(services: Services, row: IndexVersionRow) -> Recall | None:
    """How the golden questions fare before and after the switch; None where there are none to compare."""
    with services.read() as session:
        served = versions.active(session, row.collection_id)
    if served is None or served.id == row.id:
        return None
    after = golden.recall(services, row.collection_id, row.id)
    if after is None:
        return None
    try:
        before = golden.recall(services, row.collection_id, served.id)
    except IndexVersionError:
        logger.warning("the served version cannot be compared", extra={"action": "recall_unknown"})
        return None
    if before is None:
        return None
    return Recall(before=before, after=after, margin=services.settings.index.max_recall_drop)


def _switch(services: Services, version_id: str) -> IndexVersionRow:
    with services.write() as session:
        row = versions.activate(session, version_id)
        name = collections.get(session, row.collection_id).name
        checkpoint("version-activating")
    checkpoint("version-activated")
    logger.info(
        "index version served", extra={"action": "index_switched", "version": version_id, "collection": name}
    )
    retention.prune(services, row.collection_id)
    return row
