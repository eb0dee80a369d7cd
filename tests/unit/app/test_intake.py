"""Taking files in: many at once, and none whose fields are too long."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import select

from app.db import documents
from app.db.errors import InvalidText, InvalidValue, MetadataError
from app.db.tables import JobRow
from app.documents import intake
from app.documents.intake import Submission
from app.services import Services
from app.store import StoredFile
from tests.unit.app.texts import submit

Take = Callable[..., list[bool]]


@pytest.fixture
def take(services: Services) -> Take:
    def take(*files: tuple[str, str]) -> list[bool]:
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


def revisions_waiting(services: Services) -> list[tuple[str, int]]:
    """(source, revision) of every job that waits, in the order of the queue."""
    with services.read() as session:
        rows = session.scalars(select(JobRow).order_by(JobRow.created_at))
        return [(row.payload["source"], row.payload["revision"]) for row in rows]


def test_each_new_file_gets_a_document_and_a_job_in_order(take: Take, services: Services) -> None:
    assert take(("b.txt", "B"), ("a.txt", "A")) == [True, True]
    assert revisions_waiting(services) == [("/docs/b.txt", 1), ("/docs/a.txt", 1)]


def test_the_second_file_of_a_source_is_a_revision_of_the_first(take: Take, services: Services) -> None:
    assert take(("a.txt", "A"), ("a.txt", "Z")) == [True, True]
    assert revisions_waiting(services) == [("/docs/a.txt", 1), ("/docs/a.txt", 2)]


def test_what_waits_already_gets_no_second_job(take: Take, services: Services) -> None:
    take(("a.txt", "A"))
    assert take(("a.txt", "A"), ("b.txt", "B")) == [True, True]
    assert revisions_waiting(services) == [("/docs/a.txt", 1), ("/docs/b.txt", 1)]


def test_what_is_ready_and_unchanged_needs_no_work(take: Take, services: Services) -> None:
    take(("a.txt", "A"))
    with services.write() as session:
        document = documents.get(session, documents.id_of("default", "/docs/a.txt"))
        document.status, document.revision = "ready", 1
    assert take(("a.txt", "A"), ("a.txt", "Z")) == [False, True]
    assert revisions_waiting(services) == [("/docs/a.txt", 1), ("/docs/a.txt", 2)]


def test_null_is_no_value_of_a_new_document_either(services: Services) -> None:
    document = submit(services, "a.md", "pot", metadata={"year": None, "kind": "note"}).document
    assert document.meta == {"kind": "note"}


def send_one(services: Services, **fields: Any) -> None:
    intake.submit(services, Submission(filename="a.txt", **fields), BytesIO(b"A"))


def send_many(services: Services, **fields: Any) -> None:
    given = Submission(filename="a.txt", **fields)
    stored = StoredFile(content_hash=sha256(b"A").hexdigest(), n_bytes=1)
    with services.write() as session:
        intake.accept_all(services, session, [(given, stored)])


def patch(services: Services, **fields: Any) -> None:
    send_one(services)
    intake.patch(services, documents.id_of("default", "a.txt"), **fields)


KIBIBYTE = "ü" * 512


@pytest.mark.parametrize("way", [send_one, send_many, patch])
@pytest.mark.parametrize(
    ("fits", "too_long", "error"),
    [
        ({"title": "ü" * 1000}, {"title": "u" * 1001}, InvalidText),
        ({"metadata": {"a": [KIBIBYTE] * 63}}, {"metadata": {"a": [KIBIBYTE] * 64}}, MetadataError),
    ],
    ids=["title", "metadata"],
)
def test_a_field_that_is_too_long_is_refused_whichever_way_it_comes(
    services: Services,
    way: Callable[..., None],
    fits: dict[str, Any],
    too_long: dict[str, Any],
    error: type[InvalidValue],
) -> None:
    with pytest.raises(error):
        way(services, **too_long)
    way(services, **fits)
    with services.read() as session:
        row = documents.get(session, documents.id_of("default", "a.txt"))
    assert row.title == fits.get("title")
    assert row.meta == fits.get("metadata", {})


def test_nothing_is_kept_of_what_is_refused(services: Services) -> None:
    for fields in ({"title": "u" * 1001}, {"source": "u" * 2001}):
        with pytest.raises(InvalidText):
            send_one(services, **fields)
    assert not services.store.path(sha256(b"A").hexdigest()).exists()


def test_metadata_does_not_grow_beyond_the_limit_patch_by_patch(services: Services) -> None:
    half = [KIBIBYTE] * 40
    patch(services, metadata={"a": half})
    with pytest.raises(MetadataError):
        patch(services, metadata={"b": half})
    with pytest.raises(MetadataError):
        send_one(services, metadata={"b": half})
    patch(services, metadata={"a": None, "b": half})


def test_files_that_no_document_names_are_swept_away_and_no_others(services: Services) -> None:
    with services.store.adding():
        left = intake.keep_file(services, BytesIO(b"killed before the database knew of it"))
    kept = intake.submit(services, intake.Submission(filename="kept.md"), BytesIO(b"# Kept")).document
    assert intake.sweep_files(services, lambda: True) == 0
    assert intake.sweep_files(services) == 1
    assert not services.store.path(left.content_hash).exists()
    assert services.store.path(kept.content_hash).exists()
    assert intake.sweep_files(services) == 0
