"""Collections and the gap-free log of changes."""

from __future__ import annotations

import threading

import pytest

from app.db import collections, documents
from app.db.errors import CollectionExists, CollectionInUse, CollectionNotFound, InvalidText
from indexing.types import stable_id


def test_an_id_depends_on_the_name_alone(session):
    assert collections.create(session, "papers").id == stable_id("collection", "papers")


def test_a_name_is_taken_once(session):
    collections.create(session, "papers", description="d", settings={"k": 1})
    with pytest.raises(CollectionExists):
        collections.create(session, "papers")
    found = collections.get_by_name(session, "papers")
    assert (found.description, found.settings, found.change_number) == ("d", {"k": 1}, 0)


def test_the_default_is_made_once_and_never_deleted(session):
    first = collections.ensure_default(session)
    assert collections.ensure_default(session).id == first.id
    with pytest.raises(CollectionInUse):
        collections.delete(session, first.id)


def test_listed_by_name_and_gone_when_deleted(session):
    ids = {name: collections.create(session, name).id for name in ("b", "a", "C")}
    assert [row.name for row in collections.list_all(session)] == ["C", "a", "b"]
    collections.next_change(session, ids["a"], 1, "upsert")
    collections.delete(session, ids["a"])
    assert [row.name for row in collections.list_all(session)] == ["C", "b"]
    with pytest.raises(CollectionNotFound):
        collections.get(session, ids["a"])


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 201], ids=["nul", "surrogate", "long"])
def test_a_name_that_no_database_holds_is_refused(session, name):
    with pytest.raises(InvalidText):
        collections.create(session, name)


class TestChanges:
    def test_are_numbered_from_one_and_read_in_order(self, session):
        collection_id = collections.create(session, "x").id
        numbers = [
            collections.next_change(session, collection_id, document_id, kind)
            for document_id, kind in ((7, "upsert"), (8, "upsert"), (7, "delete"))
        ]
        assert numbers == [1, 2, 3]
        since = collections.changes_since(session, collection_id, 1)
        assert [(row.number, row.document_id, row.kind) for row in since] == [
            (2, 8, "upsert"),
            (3, 7, "delete"),
        ]
        assert len(collections.changes_since(session, collection_id, 0, limit=2)) == 2

    def test_each_collection_counts_for_itself(self, session):
        one, two = collections.create(session, "1").id, collections.create(session, "2").id
        assert collections.next_change(session, one, 7, "upsert") == 1
        assert collections.next_change(session, two, 7, "upsert") == 1

    def test_a_rolled_back_number_is_given_again(self, sessions):
        with sessions.begin() as session:
            collection_id = collections.create(session, "x").id
        with sessions() as session:
            assert collections.next_change(session, collection_id, 7, "upsert") == 1
        with sessions.begin() as session:
            assert collections.next_change(session, collection_id, 8, "upsert") == 1

    def test_of_several_documents_are_numbered_in_the_order_given(self, session):
        collection = collections.create(session, "x")
        ids = [
            documents.upsert_pending(
                session, collection=collection, source=source, content_hash="a" * 64, n_bytes=1
            ).document.id
            for source in "abc"
        ]
        assert collections.next_change(session, collection.id, ids[2], "upsert") == 1
        assert collections.log_changes(session, collection.id, [ids[1], ids[0]], "upsert") == 3
        rows = collections.changes_since(session, collection.id, 0)
        assert [(row.number, row.document_id) for row in rows] == [(1, ids[2]), (2, ids[1]), (3, ids[0])]
        assert [documents.get(session, key).change_number for key in ids] == [3, 2, 1]
        assert collections.log_changes(session, collection.id, [], "upsert") == 3
        assert len(collections.changes_since(session, collection.id, 0)) == 3

    def test_of_more_documents_than_one_statement_takes(self, session):
        collection_id = collections.create(session, "x").id
        assert collections.log_changes(session, collection_id, range(2000), "delete") == 2000
        rows = collections.changes_since(session, collection_id, 0)
        assert [(row.number, row.document_id) for row in rows] == [(n + 1, n) for n in range(2000)]

    def test_of_no_collection(self, session):
        with pytest.raises(CollectionNotFound):
            collections.next_change(session, 12345, 7, "upsert")

    def test_forgotten_up_to_a_number(self, session):
        collection_id = collections.create(session, "x").id
        for document_id in range(5):
            collections.next_change(session, collection_id, document_id, "upsert")
        assert collections.forget_changes(session, collection_id, 3) == 3
        assert [row.number for row in collections.changes_since(session, collection_id, 0)] == [4, 5]

    @pytest.mark.parametrize("n_documents", [1, 3])
    def test_are_gap_free_and_in_commit_order_under_concurrency(self, sessions, reading, n_documents):
        """A reader that asks for what came after the last number it saw misses nothing."""
        with sessions.begin() as session:
            collection_id = collections.create(session, "x").id
        n_threads, n_each = 4, 15

        def change(thread):
            ids = [thread * n_documents + number for number in range(n_documents)]
            for turn in range(n_each):
                with sessions() as session:
                    collections.log_changes(session, collection_id, ids, "upsert")
                    if turn % 5 == 4:
                        session.rollback()
                    else:
                        session.commit()

        threads = [threading.Thread(target=change, args=(number,)) for number in range(n_threads)]
        for thread in threads:
            thread.start()
        seen: list[tuple[int, int]] = []
        while any(thread.is_alive() for thread in threads):
            seen += self._after(reading, collection_id, seen[-1][0] if seen else 0)
        for thread in threads:
            thread.join()
        seen += self._after(reading, collection_id, seen[-1][0] if seen else 0)
        n_commits = n_threads * (n_each - n_each // 5)
        assert [number for number, _ in seen] == list(range(1, n_commits * n_documents + 1))
        # The changes of one transaction stand together.
        for start in range(0, len(seen), n_documents):
            together = [document_id for _, document_id in seen[start : start + n_documents]]
            assert together == list(range(together[0], together[0] + n_documents))
            assert together[0] % n_documents == 0

    @staticmethod
    def _after(reading, collection_id, number):
        with reading() as session:
            return [
                (row.number, row.document_id)
                for row in collections.changes_since(session, collection_id, number)
            ]
