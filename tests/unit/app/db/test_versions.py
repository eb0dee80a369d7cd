"""Index versions: one is served, and switching is one pointer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.db import collections, versions
from app.db.errors import CollectionNotFound, VersionActive, VersionNotFound, VersionNotReady

NOW = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def collection(session):
    return collections.create(session, "papers")


@pytest.fixture
def create(session, collection):
    def create(version_id, *, ready=True, minutes=0):
        versions.create(
            session,
            version_id,
            collection_id=collection.id,
            encoder_name="fake",
            encoder_fingerprint="e" * 16,
            encoder_spec={"model": "fake"},
            chunker_fingerprint="c" * 16,
            chunker_spec={"max_tokens": 256},
            dim=8,
            directory=version_id,
            now=NOW + timedelta(minutes=minutes),
        )
        if ready:
            versions.set_status(session, version_id, "ready")
        return version_id

    return create


def test_a_new_version_is_being_built_and_keeps_its_recipe(session, create):
    row = versions.get(session, create("v1", ready=False))
    assert (row.status, row.encoder_spec, row.chunker_spec) == (
        "building",
        {"model": "fake"},
        {"max_tokens": 256},
    )
    assert (row.n_chunks, row.change_number) == (0, 0)


def test_of_no_collection(session):
    with pytest.raises(CollectionNotFound):
        versions.active(session, 1)


def test_counts_and_the_change_applied(session, create):
    create("v1")
    versions.set_counts(session, "v1", n_documents=2, n_chunks=30, change_number=7)
    row = versions.get(session, "v1")
    assert (row.n_documents, row.n_chunks, row.change_number) == (2, 30, 7)


def test_activation_switches_the_collections_pointer(session, create, collection):
    assert versions.active(session, collection.id) is None
    versions.activate(session, create("v1"), now=NOW)
    assert versions.active(session, collection.id).id == "v1"
    versions.activate(session, create("v2"), now=NOW)
    assert versions.active(session, collection.id).id == "v2"
    assert versions.get(session, "v1").status == "ready"


@pytest.mark.parametrize("status", ["building", "failed", "retired"])
def test_only_a_ready_version_can_be_served(session, create, collection, status):
    create("v1")
    versions.set_status(session, "v1", status, error="why")
    with pytest.raises(VersionNotReady):
        versions.activate(session, "v1")
    assert versions.active(session, collection.id) is None


def test_the_served_version_can_neither_go_nor_fail(session, create):
    versions.activate(session, create("v1"))
    with pytest.raises(VersionActive):
        versions.delete(session, "v1")
    with pytest.raises(VersionActive):
        versions.set_status(session, "v1", "retired")


def test_rollback_goes_to_the_one_served_before(session, create, collection):
    assert versions.previous(session, collection.id) is None
    for minutes, version_id in enumerate(("v1", "v2", "v3")):
        create(version_id, minutes=minutes)
    for minutes, version_id in enumerate(("v2", "v1")):
        versions.activate(session, version_id, now=NOW + timedelta(minutes=minutes))
    assert versions.previous(session, collection.id).id == "v2"
    versions.activate(session, "v2", now=NOW + timedelta(minutes=9))
    assert versions.previous(session, collection.id).id == "v1"


def test_rollback_takes_the_newest_ready_one_where_none_was_served(session, create, collection):
    create("v1")
    create("v2", minutes=1)
    create("v3", minutes=2, ready=False)
    assert versions.previous(session, collection.id).id == "v2"


def test_lagging_are_the_served_ones_that_missed_a_change(session, create, collection):
    versions.activate(session, create("v1"))
    create("v2")
    assert versions.lagging(session) == []
    collections.next_change(session, collection.id, 7, "upsert")
    assert versions.lagging(session) == ["v1"]
    versions.set_counts(session, "v1", n_documents=1, n_chunks=1, change_number=1)
    assert versions.lagging(session) == []


def test_listed_newest_first_and_deleted(session, create, collection):
    for minutes, version_id in enumerate(("v1", "v2")):
        create(version_id, minutes=minutes)
    assert [row.id for row in versions.list_all(session, collection_id=collection.id)] == ["v2", "v1"]
    assert versions.list_all(session, status="failed") == []
    versions.delete(session, "v1")
    for action in (versions.get, versions.delete, versions.activate):
        with pytest.raises(VersionNotFound):
            action(session, "v1")
    with pytest.raises(VersionNotFound):
        versions.set_status(session, "v1", "ready")
