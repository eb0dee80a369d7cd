"""Taking many files in at once."""

from __future__ import annotations

from hashlib import sha256

import pytest
from sqlalchemy import select

from app import intake
from app.db import documents
from app.db.tables import JobRow
from app.intake import Submission
from app.store import StoredFile


@pytest.fixture
def take(services):
    def take(*files):
        """(source, content) pairs; gives whether a job waits for each."""
        given = [
            (
                Submission(filename=source, source=f"/docs/{source}"),
                StoredFile(content_hash=sha256(content.encode()).hexdigest(), n_bytes=len(content)),
            )
            for source, content in files
        ]
        with services.write() as session:
            taken = intake.accept_all(services, session, given)
        expected = [documents.id_of("default", f"/docs/{source}") for source, _ in files]
        assert [item.document_id for item in taken] == expected
        return [item.waits for item in taken]

    return take


def revisions_waiting(services):
    """(source, revision) of every job that waits, in the order of the queue."""
    with services.read() as session:
        rows = session.scalars(select(JobRow).order_by(JobRow.created_at))
        return [(row.payload["source"], row.payload["revision"]) for row in rows]


def test_each_new_file_gets_a_document_and_a_job_in_order(take, services):
    assert take(("b.txt", "B"), ("a.txt", "A")) == [True, True]
    assert revisions_waiting(services) == [("/docs/b.txt", 1), ("/docs/a.txt", 1)]


def test_the_second_file_of_a_source_is_a_revision_of_the_first(take, services):
    assert take(("a.txt", "A"), ("a.txt", "Z")) == [True, True]
    assert revisions_waiting(services) == [("/docs/a.txt", 1), ("/docs/a.txt", 2)]


def test_what_waits_already_gets_no_second_job(take, services):
    take(("a.txt", "A"))
    assert take(("a.txt", "A"), ("b.txt", "B")) == [True, True]
    assert revisions_waiting(services) == [("/docs/a.txt", 1), ("/docs/b.txt", 1)]


def test_what_is_ready_and_unchanged_needs_no_work(take, services):
    take(("a.txt", "A"))
    with services.write() as session:
        document = documents.get(session, documents.id_of("default", "/docs/a.txt"))
        document.status, document.revision = "ready", 1
    assert take(("a.txt", "A"), ("a.txt", "Z")) == [False, True]
    assert revisions_waiting(services) == [("/docs/a.txt", 1), ("/docs/a.txt", 2)]
