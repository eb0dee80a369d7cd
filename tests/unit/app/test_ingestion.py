"""A batch from file to searchable: what fails, or went away, holds up no other document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from app.db import chunks, collections, documents, jobs, queue, versions
from app.db.tables import JobRow
from app.documents import ingestion, intake
from app.services import Services
from app.upkeep import switching
from app.versions import building, following
from indexing.chunking import ChunkerSpec
from indexing.errors import LoadError
from indexing.loaders import LoaderPool
from indexing.types import LoadedText
from tests.unit.app.texts import PAGES, WORKER, Board, Loaders, collection_id, sources, submit

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass
class Recording(Board):
    """Keeps what failed by source; calls `before_saving` once, before the first document is saved."""

    failed: dict[str, str] = field(default_factory=dict)
    before_saving: Callable[[], object] | None = None

    def fail(self, session: Session, job: JobRow, code: str, detail: str, *, retry: bool) -> None:
        assert not retry
        self.failed[job.payload["source"]] = code
        queue.fail(session, WORKER, job.id, code=code, detail=detail)

    def is_stopped(self, job: JobRow) -> bool:
        hook, self.before_saving = self.before_saving, None
        if hook is not None:
            hook()
        return False


def work(services: Services, board: Recording, loaders: Loaders | None = None) -> None:
    """One batch of all that waits."""
    with services.write() as session:
        batch = queue.claim(session, WORKER, [intake.INGEST], limit=100)
    ingestion.ingest(services, cast(LoaderPool, loaders or Loaders()), board, batch)


def statuses(services: Services) -> dict[str, str]:
    """Of the jobs, by source."""
    with services.read() as session:
        return {job.payload["source"]: job.status for job in jobs.list_page(session).items}


def test_metadata_that_no_filter_finds_fails_its_document_alone(services: Services) -> None:
    tags = "\n".join(f"tags{n}: [{', '.join(f'tag{m}' for m in range(60))}]" for n in range(20))
    submit(services, "tags.md", f"---\n{tags}\n---\n\n# Tags\n\nMany words of many kinds.\n")
    submit(services, "tea.md", PAGES["tea.md"])
    board = Recording()
    work(services, board)
    assert board.failed == {"tags.md": "invalid_metadata"}
    assert statuses(services) == {"tags.md": "failed", "tea.md": "succeeded"}
    assert sources(services, "green tea") == ["tea.md"]


def test_a_collection_that_was_deleted_holds_up_no_other(services: Services) -> None:
    with services.write() as session:
        other = collections.create(session, "other").id
    submit(services, "gone.md", PAGES["fusion.md"], collection="other")
    submit(services, "tea.md", PAGES["tea.md"])
    with services.write() as session:
        collections.delete(session, other)
    work(services, Recording())
    assert statuses(services) == {"gone.md": "succeeded", "tea.md": "succeeded"}
    assert sources(services, "green tea") == ["tea.md"]


def test_a_source_that_came_back_while_its_old_text_was_in_work_shows_the_new_one(services: Services) -> None:
    old = submit(services, "tea.md", PAGES["tea.md"]).document.id

    def replace() -> None:
        intake.delete(services, old)
        submit(services, "tea.md", PAGES["fusion.md"])

    work(services, Recording(before_saving=replace))
    with services.read() as session:
        assert chunks.of_document(session, old) == []
    work(services, Recording())
    with services.read() as session:
        assert documents.get(session, old).status == "ready"
        assert "convex" in chunks.of_document(session, old)[0].text


def test_a_document_that_was_deleted_before_its_file_was_read_has_not_failed(services: Services) -> None:
    gone = submit(services, "gone.md", PAGES["fusion.md"]).document.id
    submit(services, "broken.md", PAGES["tea.md"])

    class Late(Loaders):
        def load(self, path: Path, *, filename: str) -> LoadedText:
            if filename == "gone.md":
                intake.delete(services, gone)
            raise LoadError("corrupt_file", "the file cannot be opened: No such file or directory")

    board = Recording()
    work(services, board, Late())
    assert board.failed == {"broken.md": "corrupt_file"}
    with services.read() as session:
        assert queue.held(session, WORKER) == set()


@pytest.mark.parametrize("max_tokens", [30, 200])
def test_an_index_that_was_activated_meanwhile_has_the_document_too(
    services: Services, max_tokens: int
) -> None:
    document_id = submit(services, "tea.md", PAGES["tea.md"]).document.id

    def switch() -> None:
        spec = ChunkerSpec(max_tokens=max_tokens, overlap_tokens=0, min_tokens=5)
        built = building.build(services, collection_id(services), chunker_spec=spec)
        switching.activate(services, built.id)

    work(services, Recording(before_saving=switch))
    with services.read() as session:
        row = collections.get(session, collection_id(services))
        document = documents.get(session, document_id)
    assert document.status == "ready"
    snapshot = services.snapshots.get(row.active_version_id or "")
    assert document.n_chunks == len(snapshot.chunk_ids()) > 0


def test_a_document_that_was_published_before_the_served_version_had_it_says_its_chunks(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(services, "fusion.md", PAGES["fusion.md"])
    work(services, Recording())
    spec = ChunkerSpec(max_tokens=30, overlap_tokens=0, min_tokens=5)
    beside = building.build(services, collection_id(services), chunker_spec=spec).id
    publish = ingestion.publish

    def switch_and_publish(*arguments: Any) -> None:
        with services.write() as session:
            versions.activate(session, beside)
        publish(*arguments)

    monkeypatch.setattr(ingestion, "publish", switch_and_publish)
    document_id = submit(services, "tea.md", PAGES["tea.md"]).document.id
    work(services, Recording())
    following.commit_pending(services, beside)
    with services.read() as session:
        made = chunks.of_document(session, document_id, chunker=spec.fingerprint)
        assert documents.get(session, document_id).n_chunks == len(made) > 0
