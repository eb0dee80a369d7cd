"""Documents: accepted, ingested, replaced, failed, patched, deleted."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from app.db import batches, chunks, collections, documents, loaded_texts, removal, revisions, versions
from app.db.errors import CursorError, DocumentNotFound, InvalidText, MetadataError
from app.db.filters import allowed_documents
from tests.unit.app.db.papers import CHUNKER, LOADED, NOW, texts


class TestAccepting:
    def test_a_new_source_waits_as_revision_one(self, upload):
        upserted = upload(title="T", meta={"year": 2020})
        document = upserted.document
        assert (upserted.revision, upserted.is_new) == (1, True)
        assert document.id == documents.id_of("papers", "a.txt")
        assert (document.status, document.revision, document.title) == ("pending", 0, "T")
        assert document.meta == {"year": 2020}
        assert (document.created_at, document.change_number) == (NOW, 0)

    def test_same_bytes_when_ready_are_nothing_to_do(self, upload, ingest):
        ingest(upload())
        again = upload()
        assert (again.revision, again.is_new, again.document.status) == (None, False, "ready")

    def test_same_bytes_while_waiting_give_the_revision_that_waits(self, session, upload):
        first = upload()
        assert upload().revision == first.revision
        batches.begin(session, {first.document.id: 1})
        again = upload()
        assert (again.revision, again.document.status) == (1, "processing")

    def test_same_bytes_after_a_failure_wait_again(self, session, upload):
        first = upload()
        documents.set_error(session, first.document.id, 1, code="corrupt_file", detail="no text")
        again = upload()
        assert (again.revision, again.document.status, again.document.error_code) == (1, "pending", None)
        assert revisions.get(session, first.document.id, 1).status == "pending"

    def test_new_bytes_are_a_new_revision_beside_the_served_one(self, session, upload, ingest):
        ingest(upload("a"))
        second = upload("b")
        assert second.revision == 2
        assert (second.document.revision, second.document.status) == (1, "pending")
        assert texts(session, second.document.id) == ["one", "two"]

    def test_going_back_to_earlier_bytes_is_a_new_revision_too(self, upload, ingest):
        ingest(upload("a"))
        ingest(upload("b"))
        assert upload("a").revision == 3

    def test_the_same_source_in_another_collection_is_another_document(self, session, upload, collection):
        other = collections.create(session, "other")
        upserted = documents.upsert_pending(
            session, collection=other, source="a.txt", content_hash="a" * 64, n_bytes=1
        )
        assert upserted.is_new
        assert upserted.document.id != upload().document.id

    @pytest.mark.parametrize(
        ("others", "error"),
        [
            ({"source": "a\0"}, InvalidText),
            ({"source": "é" * 1001}, InvalidText),
            ({"title": "\ud83d"}, InvalidText),
            ({"filename": "\0"}, InvalidText),
            ({"meta": {"x": float("nan")}}, MetadataError),
            ({"meta": {"x": object()}}, MetadataError),
            ({"meta": {"x": {"y": "\0"}}}, MetadataError),
            ({"meta": {"": 1}}, MetadataError),
        ],
    )
    def test_what_cannot_be_kept_is_refused(self, upload, others, error):
        with pytest.raises(error):
            upload(**others)

    def test_a_very_long_metadata_text_is_kept_and_found(self, session, upload, collection):
        text = "".join(chr(0x4E00 + number % 3000) for number in range(20_000))
        document = upload(meta={"abstract": text}).document
        found = allowed_documents(session, collection.id, {"abstract": text})
        assert found.tolist() == [document.id]
        assert allowed_documents(session, collection.id, {"abstract": text[:-1] + "x"}).size == 0


class TestFailing:
    def test_a_failed_revision_leaves_the_served_one(self, session, upload, ingest):
        ingest(upload("a"))
        second = upload("b")
        documents.set_error(session, second.document.id, 2, code="corrupt_file", detail="bad\0byte")
        document = documents.get(session, second.document.id)
        assert (document.status, document.error_code) == ("failed", "corrupt_file")
        assert "\0" not in document.error_detail
        assert (document.revision, texts(session, document.id)) == (1, ["one", "two"])

    def test_what_is_served_or_overtaken_does_not_fail_any_more(self, session, upload, ingest):
        ingest(upload("a"))
        ingest(upload("b"))
        document_id = upload("c").document.id
        for number in (1, 2):
            documents.set_error(session, document_id, number, code="corrupt_file", detail="x")
            assert documents.get(session, document_id).status == "pending"

    def test_reopen_asks_for_the_same_bytes_again(self, session, upload, ingest):
        upserted = upload()
        ingest(upserted)
        number = documents.reopen(session, upserted.document.id)
        assert number == 2
        assert documents.get(session, upserted.document.id).status == "pending"
        files = batches.begin(session, {upserted.document.id: number})
        assert files[upserted.document.id].content_hash == "a" * 64


class TestKeptTexts:
    def test_come_back_as_the_loader_gave_them(self, session, upload, ingest):
        upserted = upload()
        assert loaded_texts.newest_text(session, upserted.document.id) is None
        ingest(upserted, loaded=LOADED)
        kept = loaded_texts.newest_text(session, upserted.document.id)
        assert (kept.revision, kept.title, kept.loaded) == (1, "From the file", LOADED)

    def test_documents_to_be_cut_are_those_whose_newest_text_has_no_chunk(
        self, session, upload, ingest, save
    ):
        cut, uncut, empty = (upload(source=name) for name in ("cut", "uncut", "empty"))
        ingest(cut)
        save(uncut, words=())
        ids = [upserted.document.id for upserted in (cut, uncut, empty)]
        assert loaded_texts.without_chunks(session, ids, CHUNKER) == [uncut.document.id]
        assert loaded_texts.without_chunks(session, ids, "other") == sorted(
            [cut.document.id, uncut.document.id]
        )

    def test_a_newer_text_is_to_be_cut_again(self, session, upload, ingest, save):
        ingest(upload("a"))
        second = upload("b")
        save(second, words=())
        assert loaded_texts.without_chunks(session, [second.document.id], CHUNKER) == [second.document.id]


class TestPatching:
    def test_merges_metadata_and_logs_a_change(self, session, upload, collection):
        document = upload(title="T", meta={"a": 1, "b": 2}).document
        patched = documents.patch(session, document.id, meta={"b": None, "c": [3]}, now=NOW)
        assert (patched.title, patched.meta, patched.change_number) == ("T", {"a": 1, "c": [3]}, 1)
        assert allowed_documents(session, collection.id, {"c": 3}).size == 1
        assert allowed_documents(session, collection.id, {"b": 2}).size == 0

    def test_a_title_of_none_goes_back_to_the_loaders(self, session, upload, ingest):
        upserted = upload(title="Mine")
        ingest(upserted, loaded=LOADED)
        assert documents.patch(session, upserted.document.id, title=None).title == "From the file"

    def test_refused_whole(self, session, upload):
        document = upload(meta={"a": 1}).document
        with pytest.raises(MetadataError):
            documents.patch(session, document.id, title="new", meta={"a": float("inf")})
        found = documents.get(session, document.id)
        assert (found.title, found.meta) == (None, {"a": 1})


class TestDeleting:
    def test_takes_everything_in_one_step_and_logs_it(self, session, upload, ingest, collection):
        ingest(upload("a"))
        upserted = upload("b", meta={"x": 1})
        removed = removal.delete(session, upserted.document.id)
        assert (removed.n_chunks, removed.rows["revisions"]) == (2, 2)
        assert removed.content_hashes == ("a" * 64, "b" * 64)
        last = collections.changes_since(session, collection.id, removed.change_number - 1)[-1]
        assert (last.kind, last.document_id) == ("delete", upserted.document.id)
        assert chunks.count(session) == 0
        assert allowed_documents(session, collection.id, {"x": 1}).size == 0
        with pytest.raises(DocumentNotFound):
            documents.get(session, upserted.document.id)
        with pytest.raises(DocumentNotFound):
            removal.delete(session, upserted.document.id)

    def test_a_source_can_come_back(self, upload, ingest, session):
        first = upload()
        removal.delete(session, first.document.id)
        again = upload()
        assert again.is_new
        assert (again.document.id, again.revision) == (first.document.id, 1)

    def test_a_collection_goes_with_its_documents(self, session, upload, ingest, collection):
        ingest(upload(meta={"x": 1}))
        collections.delete(session, collection.id)
        assert chunks.count(session) == 0
        assert documents.list_page(session).items == []
        assert versions.list_all(session) == []


class TestListing:
    def test_pages_cover_everything_once_in_order(self, session, upload, collection):
        # Three at a time have the same instant, so that the order must fall back on the id.
        ids = {
            upload(source=f"{number}", now=NOW + timedelta(seconds=number // 3)).document.id
            for number in range(10)
        }
        seen, cursor, n_pages = [], None, 0
        while True:
            page = documents.list_page(session, collection_id=collection.id, limit=4, cursor=cursor)
            seen += [(row.created_at, row.id) for row in page.items]
            n_pages += 1
            cursor = page.next_cursor
            if cursor is None:
                break
        assert n_pages == 3
        assert seen == sorted(seen)
        assert {document_id for _, document_id in seen} == ids
        assert len(seen) == 10

    def test_a_last_full_page_has_no_cursor(self, session, upload):
        for number in range(4):
            upload(source=str(number))
        assert documents.list_page(session, limit=4).next_cursor is None

    def test_a_page_neither_skips_nor_repeats_when_rows_go(self, session, upload):
        for number in range(6):
            upload(source=str(number), now=NOW + timedelta(seconds=number))
        first = documents.list_page(session, limit=3)
        removal.delete(session, first.items[0].id)
        rest = documents.list_page(session, limit=3, cursor=first.next_cursor)
        assert [row.source for row in rest.items] == ["3", "4", "5"]

    def test_by_status_and_counted(self, session, upload, ingest, collection):
        ingest(upload("a", source="done"))
        upload("b", source="waiting")
        page = documents.list_page(session, status="ready")
        assert [row.source for row in page.items] == ["done"]
        assert documents.counts(session, collection_id=collection.id) == {
            (collection.id, "ready"): 1,
            (collection.id, "pending"): 1,
        }
        assert documents.ids_of_collection(session, collection.id) == sorted(
            documents.id_of("papers", name) for name in ("done", "waiting")
        )

    @pytest.mark.parametrize(
        "cursor",
        ["", "x", "%%%", "bnVsbA", "WzEsMl0", "WyIyMDI0LTA1LTAxIiwgMV0", "W10"],
    )
    def test_a_cursor_that_is_not_ours_is_refused(self, session, cursor):
        with pytest.raises(CursorError):
            documents.list_page(session, cursor=cursor)


def test_allowed_documents_are_a_sorted_int64_array(session, upload, collection):
    for number in range(5):
        upload(source=str(number), meta={"n": number})
    found = allowed_documents(session, collection.id, {"n": {"$gte": 2}})
    assert found.dtype == np.int64
    assert found.tolist() == sorted(documents.id_of("papers", str(number)) for number in (2, 3, 4))
