"""Texts for the service's own tests, and how they get in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, cast

from app.db import collections, queue, versions
from app.db.tables import JobRow
from app.documents import ingestion, intake
from app.search.searching import SearchRequest, search
from app.services import Services
from app.versions import building, following
from indexing.loaders import LoaderPool
from indexing.loaders.registry import load_file
from indexing.types import LoadedText
from retrievers.types import Mode

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

WORKER = "test"

PAGES = {
    "leases.md": "# Leases\n\nA job returns to the queue when its lease ends. The worker renews the lease.\n",
    "fusion.md": "# Fusion\n\nThe convex combination weighs the dense score by alpha.\n",
    "tea.md": "# Tea\n\nWarm the pot before the leaves go in. Green tea wants cooler water.\n",
}


def submit(services: Services, source: str, text: str, **fields: object) -> intake.Accepted:
    """Takes a text in; no one works on it yet."""
    submission = intake.Submission(filename=source, **fields)  # type: ignore[arg-type]
    return intake.submit(services, submission, BytesIO(text.encode()))


def ingest(services: Services, texts: Mapping[str, str]) -> dict[str, int]:
    """Makes texts searchable, without the processes of a real worker; gives the documents' ids by source."""
    accepted = {source: submit(services, source, text) for source, text in texts.items()}
    with services.write() as session:
        batch = queue.claim(session, WORKER, [intake.INGEST], limit=len(accepted))
    ingestion.ingest(services, cast(LoaderPool, Loaders()), Board(), batch)
    follow(services)
    return {source: item.document.id for source, item in accepted.items()}


def follow(services: Services) -> None:
    """Lets the served versions follow what changed, as an idle worker does."""
    for version_id in following.lagging(services):
        following.commit_pending(services, version_id)


def unfinished(services: Services, collection: str = "default") -> str:
    """A version that is being built, and whose builder is gone: it has nothing yet."""

    def stop(_stage: str, _done: int, _total: int) -> None:
        raise building.BuildStopped

    owner = collection_id(services, collection)
    with suppress(building.BuildStopped):
        building.build(services, owner, progress=stop)
    with services.read() as session:
        return versions.list_all(session, collection_id=owner, status="building")[0].id


class Loaders:
    """Reads files in this process."""

    def load(self, path: Path, *, filename: str) -> LoadedText:
        return load_file(path, filename=filename)


class Board:
    """Records what ended well; nothing is ever stopped."""

    def progress(
        self, jobs: Sequence[JobRow], note: str, done: int = 0, total: int | None = None
    ) -> None: ...

    def succeed(self, session: Session, jobs: Sequence[JobRow]) -> None:
        queue.succeed_all(session, WORKER, [job.id for job in jobs])

    def fail(self, session: Session, job: JobRow, code: str, detail: str, *, retry: bool) -> None:
        raise AssertionError(f"{job.payload['source']}: {code}: {detail}")

    def is_stopped(self, job: JobRow) -> bool:
        return False

    def renew(self, session: Session, jobs: Sequence[JobRow]) -> None: ...


def collection_id(services: Services, name: str = "default") -> int:
    with services.read() as session:
        return collections.get_by_name(session, name).id


def sources(services: Services, query: str, *, top_k: int = 10, mode: Mode = "auto") -> list[str]:
    """The sources of the hits, best first."""
    found = search(services, SearchRequest(query=query, top_k=top_k, mode=mode))
    return [passage.source for passage in found.passages]
