"""A title that the user gives is what searches find in the end, however it comes in and whenever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest

from app.db import chunks, documents, queue
from app.db.tables import DocumentRow, JobRow
from app.documents import ingestion, intake
from app.services import Services
from indexing.loaders import LoaderPool
from tests.unit.app.texts import PAGES, WORKER, Board, Loaders, follow, ingest, sources, submit


@dataclass
class Interrupted(Board):
    """Calls `meanwhile` once, after the document was cut and before it is saved."""

    meanwhile: Callable[[], object] | None = None

    def is_stopped(self, job: JobRow) -> bool:
        hook, self.meanwhile = self.meanwhile, None
        if hook is not None:
            hook()
        return False


def work(services: Services, meanwhile: Callable[[], object] | None = None) -> int:
    """One batch of all that waits; gives how many jobs that was."""
    with services.write() as session:
        batch = queue.claim(session, WORKER, [intake.INGEST], limit=100)
    ingestion.ingest(services, cast(LoaderPool, Loaders()), Interrupted(meanwhile), batch)
    follow(services)
    return len(batch)


def row_of(services: Services, source: str) -> DocumentRow:
    with services.read() as session:
        return documents.get(session, documents.id_of("default", source))


def found_by_title(services: Services, words: str) -> list[str]:
    return sources(services, words, mode="bm25")


def headings(services: Services, source: str) -> set[str]:
    with services.read() as session:
        return {chunk.heading_path[0] for chunk in chunks.of_document(session, row_of(services, source).id)}


def test_the_same_bytes_under_a_new_title_are_indexed_anew(services: Services) -> None:
    ingest(services, PAGES)
    again = submit(services, "tea.md", PAGES["tea.md"], title="Brewing manual")
    assert again.job is not None
    assert again.document.status == "pending"
    work(services)
    assert found_by_title(services, "brewing manual") == ["tea.md"]
    assert headings(services, "tea.md") == {"Brewing manual"}
    assert row_of(services, "tea.md").status == "ready"


@pytest.mark.parametrize("title", [None, "Tea"])
def test_the_same_bytes_under_the_same_title_need_no_work(services: Services, title: str | None) -> None:
    ingest(services, PAGES)
    assert submit(services, "tea.md", PAGES["tea.md"], title=title).job is None
    assert row_of(services, "tea.md").title == "Tea"


@pytest.mark.parametrize("first", [None, "Early words"])
def test_a_title_patched_in_while_the_document_is_in_work_is_found(
    services: Services, first: str | None
) -> None:
    document = submit(services, "tea.md", PAGES["tea.md"], title=first).document
    work(services, lambda: intake.patch(services, document.id, title="Brewing manual"))
    while work(services):
        pass
    row = row_of(services, "tea.md")
    assert (row.title, row.status) == ("Brewing manual", "ready")
    assert found_by_title(services, "brewing manual") == ["tea.md"]
    assert found_by_title(services, "early words") == []
    assert headings(services, "tea.md") == {"Brewing manual"}


def test_a_title_uploaded_while_the_document_is_in_work_is_found(services: Services) -> None:
    submit(services, "tea.md", PAGES["tea.md"])
    work(services, lambda: submit(services, "tea.md", PAGES["tea.md"], title="Brewing manual"))
    while work(services):
        pass
    row = row_of(services, "tea.md")
    assert (row.title, row.status) == ("Brewing manual", "ready")
    assert headings(services, "tea.md") == {"Brewing manual"}


def test_a_title_of_what_only_waits_makes_no_second_job(services: Services) -> None:
    document = submit(services, "tea.md", PAGES["tea.md"]).document
    intake.patch(services, document.id, title="Brewing manual")
    submit(services, "tea.md", PAGES["tea.md"], title="Green leaves")
    assert work(services) == 1
    assert work(services) == 0
    assert headings(services, "tea.md") == {"Green leaves"}
