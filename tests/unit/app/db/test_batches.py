"""The steps of ingestion, for one document and for many: what each keeps, and what it leaves out."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import select

from app.db import (
    arrivals,
    batches,
    chunks,
    collections,
    documents,
    loaded_texts,
    removal,
    revisions,
)
from app.db.arrivals import NewDocument
from app.db.batches import LoadedRevision
from app.db.filters import allowed_documents
from app.db.metadata import MAX_VALUES, flatten
from app.db.tables import AttributeRow, ChunkRow
from indexing.types import LoadedText
from tests.unit.app.db.papers import CHUNKER, LOADED, OTHER_CHUNKER, chunks_of, serve_version, texts

# More than one statement takes.
N_MANY = 520


def loaded(file, *words, **others):
    """A revision that was cut into words."""
    text = LoadedText(text=" ".join(words), **others)
    return LoadedRevision(file=file, text=text, chunks=tuple(chunks_of(file.document_id, words)))


def begin_one(session, upserted):
    (file,) = batches.begin(session, {upserted.document.id: upserted.revision}).values()
    return file


def changes(session, collection):
    """(document, kind) of every change, in order; their numbers have no gap."""
    rows = collections.changes_since(session, collection.id, 0)
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [(row.document_id, row.kind) for row in rows]


class TestBegin:
    def test_gives_what_the_loader_needs(self, session, upload):
        upserted = upload(title="Mine")
        file = begin_one(session, upserted)
        assert (file.document_id, file.revision, file.n_bytes) == (upserted.document.id, 1, 10)
        assert (file.content_hash, file.filename, file.source, file.title, file.media_type) == (
            "a" * 64,
            "a.txt",
            "a.txt",
            "Mine",
            "text/plain",
        )
        assert documents.get(session, file.document_id).status == "processing"

    def test_leaves_out_what_needs_no_work(self, session, upload, ingest):
        live, served, overtaken, deleted = (upload(source=name) for name in "lsod")
        ingest(served)
        upload("b", source="o")
        removal.delete(session, deleted.document.id)
        numbers = {item.document.id: 1 for item in (live, served, overtaken, deleted)} | {12345: 1}
        assert batches.begin(session, numbers).keys() == {live.document.id}
        statuses = {row.source: row.status for row in documents.list_page(session).items}
        assert statuses == {"l": "processing", "s": "ready", "o": "pending"}

    def test_forgets_the_error_of_an_earlier_attempt(self, session, upload):
        upserted = upload()
        documents.set_error(session, upserted.document.id, 1, code="corrupt_file", detail="x")
        begin_one(session, upserted)
        document = documents.get(session, upserted.document.id)
        assert (document.status, document.error_code, document.error_detail) == ("processing", None, None)

    def test_of_a_revision_that_is_gone(self, session, upload):
        assert batches.begin(session, {upload().document.id: 7}) == {}


class TestServing:
    def test_shows_title_metadata_pages_and_counts(self, session, upload, ingest, collection):
        upserted = upload(meta={"year": 2020})
        assert ingest(upserted, loaded=LOADED) == ()
        document = documents.get(session, upserted.document.id)
        assert (document.status, document.revision, document.title) == ("ready", 1, "From the file")
        assert document.meta == {"author": "Ada", "tags": ["x", "y"], "year": 2020}
        assert (document.n_pages, document.n_chunks) == (2, 2)
        assert revisions.get(session, document.id, 1).status == "ready"
        for filters in ({"author": "Ada"}, {"tags": "y"}, {"year": 2020}):
            assert allowed_documents(session, collection.id, filters).tolist() == [document.id]

    def test_the_users_title_and_metadata_stand_over_the_loaders(self, session, upload, ingest):
        upserted = upload(title="Mine", meta={"author": "Bob"})
        ingest(upserted, loaded=LOADED)
        ingest(upload("b"), loaded=replace(LOADED, title="New", metadata={"author": "Cy", "pages": 3}))
        document = documents.get(session, upserted.document.id)
        assert (document.title, document.meta) == ("Mine", {"author": "Bob", "pages": 3})

    def test_what_the_earlier_loader_said_goes_with_its_revision(self, session, upload, ingest):
        ingest(upload("a", meta={"year": 2020}), loaded=LOADED)
        second = upload("b")
        assert begin_one(session, second).title is None
        ingest(second, loaded=LoadedText(text="one two", title="New", metadata={"pages": 3}))
        document = documents.get(session, second.document.id)
        assert (document.title, document.meta) == ("New", {"year": 2020, "pages": 3})

    def test_replaces_chunks_and_text_and_frees_the_file(self, session, upload, ingest):
        ingest(upload("a"), words=("one", "two", "three"))
        second = upload("b")
        assert ingest(second, words=("one", "2")) == ("a" * 64,)
        document_id = second.document.id
        assert texts(session, document_id) == ["one", "2"]
        assert documents.get(session, document_id).n_chunks == 2
        old = revisions.get(session, document_id, 1)
        assert (old.status, old.text, old.pages, old.headings, old.blocks) == ("superseded", None, [], [], [])
        assert revisions.get(session, document_id, 2).text == "one 2"
        assert revisions.content_hashes(session) == ("b" * 64,)

    def test_a_file_that_another_document_needs_is_not_freed(self, upload, ingest):
        upload("a", source="other.txt")
        ingest(upload("a"))
        assert ingest(upload("b")) == ()

    def test_files_are_freed_where_all_that_needed_them_go_together(self, upload, ingest):
        ingest(*(upload("a", source=name) for name in "xy"))
        assert ingest(*(upload("b", source=name) for name in "xy")) == ("a" * 64,)

    def test_revisions_that_were_never_served_go_too(self, session, upload, ingest):
        failed = upload("a")
        documents.set_error(session, failed.document.id, 1, code="corrupt_file", detail="x")
        assert ingest(upload("b")) == ("a" * 64,)
        assert revisions.get(session, failed.document.id, 1).status == "superseded"

    def test_what_an_index_must_see_is_a_change(self, session, upload, ingest, collection):
        """The first revision changes the index once; a later one twice, since chunks come and chunks go."""
        upserted = upload("a")
        assert changes(session, collection) == []
        ingest(upserted)
        assert documents.get(session, upserted.document.id).change_number == 1
        ingest(upload("b"), words=("new",))
        assert changes(session, collection) == [(upserted.document.id, "upsert")] * 3
        assert documents.get(session, upserted.document.id).change_number == 3

    def test_every_step_can_run_twice(self, session, upload, collection):
        file = begin_one(session, upload(meta={"year": 2020}))
        item = LoadedRevision(file=file, text=LOADED, chunks=tuple(chunks_of(file.document_id, ("a", "b"))))
        seen = []
        for _ in range(2):
            saved = batches.save(session, collection.id, [item], CHUNKER)
            published = batches.publish(session, collection.id, {file.document_id: 1})
            assert saved.document_ids == published.document_ids == {file.document_id}
            document = documents.get(session, file.document_id)
            seen.append((document.title, document.meta, document.n_chunks, document.n_pages, document.status))
            assert texts(session, file.document_id) == ["a", "b"]
        assert seen[0] == seen[1]
        assert changes(session, collection) == [(file.document_id, "upsert")] * 2, "none by publishing"

    def test_while_newer_content_waits_the_document_stays_pending(self, session, upload, collection):
        file = begin_one(session, upload("a"))
        upload("b")
        batches.save(session, collection.id, [loaded(file, "x")], CHUNKER)
        batches.publish(session, collection.id, {file.document_id: 1})
        document = documents.get(session, file.document_id)
        assert (document.revision, document.status, texts(session, document.id)) == (1, "pending", ["x"])

    def test_keeps_the_error_of_newer_content_that_failed_meanwhile(self, session, upload, collection):
        file = begin_one(session, upload("a"))
        upload("b")
        documents.set_error(session, file.document_id, 2, code="corrupt_file", detail="x")
        batches.save(session, collection.id, [loaded(file, "x")], CHUNKER)
        batches.publish(session, collection.id, {file.document_id: 1})
        document = documents.get(session, file.document_id)
        assert (document.revision, document.status, document.error_code) == (1, "failed", "corrupt_file")

    def test_a_late_worker_cannot_bring_an_old_revision_back(self, session, upload, ingest, collection):
        file = begin_one(session, upload("a"))
        ingest(upload("b"), words=("new",))
        before = changes(session, collection)
        saved = batches.save(session, collection.id, [loaded(file, "old")], CHUNKER)
        published = batches.publish(session, collection.id, {file.document_id: 1})
        assert saved.document_ids == published.document_ids == frozenset()
        documents.set_error(session, file.document_id, 1, code="corrupt_file", detail="x")
        document = documents.get(session, file.document_id)
        assert (document.revision, document.status) == (2, "ready")
        assert texts(session, file.document_id) == ["new"]
        assert changes(session, collection) == before

    def test_chunks_that_both_revisions_have_stay(self, session, upload, ingest):
        first = upload("a")
        ingest(first, words=("one", "two", "three"))
        before = {chunk.text: chunk.id for chunk in chunks.of_document(session, first.document.id)}
        ingest(upload("b"), words=("one", "two", "four"))
        after = {chunk.text: chunk.id for chunk in chunks.of_document(session, first.document.id)}
        assert list(after) == ["one", "two", "four"]
        assert (after["one"], after["two"]) == (before["one"], before["two"])
        assert set(session.scalars(select(ChunkRow.revision))) == {2}
        assert documents.get(session, first.document.id).n_chunks == 3

    def test_both_revisions_have_chunks_until_the_later_is_served(self, session, upload, ingest, save):
        ingest(upload("a"), words=("one", "two"))
        second = upload("b")
        numbers = save(second, words=("one", "2"))
        assert sorted(texts(session, second.document.id)) == ["2", "one", "two"]
        assert numbers == {second.document.id: 2}

    def test_counts_the_chunks_of_the_index_that_is_served(self, session, upload, save, collection):
        numbers = save(upload(), words=("one", "two"))
        (document_id,) = numbers
        chunks.insert(session, 1, OTHER_CHUNKER, chunks_of(document_id, ("one two",), OTHER_CHUNKER))
        batches.publish(session, collection.id, numbers)
        assert documents.get(session, document_id).n_chunks == 2
        serve_version(session, "v2", collection.id, OTHER_CHUNKER)
        batches.publish(session, collection.id, numbers)
        assert documents.get(session, document_id).n_chunks == 1

    def test_chunks_of_an_earlier_revision_go_under_every_chunker(self, session, upload, ingest):
        first = upload("a")
        ingest(first)
        chunks.insert(session, 1, OTHER_CHUNKER, chunks_of(first.document.id, ("one two",), OTHER_CHUNKER))
        ingest(upload("b"), words=("new",))
        assert texts(session, first.document.id) == ["new"]

    def test_a_collection_without_an_index(self, session):
        other = collections.create(session, "other")
        upserted = documents.upsert_pending(
            session, collection=other, source="a", content_hash="a" * 64, n_bytes=1
        )
        file = begin_one(session, upserted)
        batches.save(session, other.id, [loaded(file, "x")], CHUNKER)
        batches.publish(session, other.id, {file.document_id: 1})
        document = documents.get(session, file.document_id)
        assert (document.status, document.n_chunks) == ("ready", 0)


class TestManyTogether:
    def test_one_deleted_one_overtaken_one_served_hold_up_no_other(self, session, upload, ingest, collection):
        live, deleted, overtaken, served = uploads = [upload(source=name) for name in "ldos"]
        files = batches.begin(session, {item.document.id: 1 for item in uploads})
        items = [loaded(file, "x", file.source) for file in files.values()]
        assert len(items) == 4
        served_id = served.document.id
        batches.save(session, collection.id, [i for i in items if i.file.document_id == served_id], CHUNKER)
        batches.publish(session, collection.id, {served_id: 1})
        removal.delete(session, deleted.document.id)
        ingest(upload("b", source="o"), words=("newer",))
        before = len(changes(session, collection))
        alive = {live.document.id, served_id}
        saved = batches.save(session, collection.id, items, CHUNKER)
        assert (saved.document_ids, saved.refused) == (alive, {})
        assert changes(session, collection)[before:] == [(key, "upsert") for key in sorted(alive)]
        published = batches.publish(session, collection.id, {item.document.id: 1 for item in uploads})
        assert published.document_ids == alive
        assert texts(session, live.document.id) == ["x", "l"]
        assert texts(session, served_id) == ["x", "s"]
        assert texts(session, overtaken.document.id) == ["newer"]
        assert documents.get(session, overtaken.document.id).revision == 2
        assert texts(session, deleted.document.id) == []
        assert len(changes(session, collection)) == before + 2

    def test_the_revision_of_each_document_is_its_own(self, session, upload, ingest, collection):
        ingest(upload("a", source="later"), words=("old", "same"))
        later, first = upload("b", source="later"), upload("c", source="first")
        files = batches.begin(session, {later.document.id: 2, first.document.id: 1})
        items = [loaded(file, file.source, "same") for file in files.values()]
        batches.save(session, collection.id, items, CHUNKER)
        before = len(changes(session, collection))
        published = batches.publish(session, collection.id, {later.document.id: 2, first.document.id: 1})
        assert published.content_hashes == ("a" * 64,)
        rows = session.execute(select(ChunkRow.document_id, ChunkRow.revision).distinct()).all()
        assert {tuple(row) for row in rows} == {(later.document.id, 2), (first.document.id, 1)}
        assert changes(session, collection)[before:] == [(later.document.id, "upsert")]
        for item, source in ((later, "later"), (first, "first")):
            document = documents.get(session, item.document.id)
            assert (document.revision, document.n_chunks) == (item.revision, 2)
            assert texts(session, document.id) == [source, "same"]

    def test_more_than_one_statement_takes(self, session, collection):
        """Twice, so that all have an earlier revision; each has texts and metadata of its own."""
        new = {
            documents.id_of("papers", f"{n}"): NewDocument(
                source=f"{n}", content_hash=f"{n:064d}", n_bytes=n, filename="a", metadata={"own": n}
            )
            for n in range(N_MANY)
        }
        assert len(arrivals.insert_new(session, collection, new)) == N_MANY
        self.ingest_all(session, collection, dict.fromkeys(new, 1), "old")
        numbers = {document_id: documents.reopen(session, document_id) for document_id in new}
        published = self.ingest_all(session, collection, numbers, "new")
        assert published.document_ids == new.keys()
        assert published.content_hashes == ()
        once = [(document_id, "upsert") for document_id in sorted(new)]
        assert changes(session, collection) == once * 3, "old ones come, new ones come, old ones go"
        expected = set()
        for document_id, item in new.items():
            document = documents.get(session, document_id)
            assert (document.status, document.revision, document.n_chunks) == ("ready", 2, 2)
            assert document.title == f"new {item.source}"
            assert document.meta == {**item.metadata, "new": item.source, "tags": ["x", item.source]}
            for position, (field, value) in enumerate(flatten(document.meta)):
                expected.add((document_id, field, position, value.text, value.number))
        columns = ("document_id", "field", "position", "text_value", "number_value")
        rows = session.execute(select(*(getattr(AttributeRow, name) for name in columns)))
        assert {tuple(row) for row in rows} == expected
        assert chunks.count(session) == 2 * N_MANY

    @staticmethod
    def ingest_all(session, collection, numbers, word):
        files = batches.begin(session, numbers)
        assert files.keys() == numbers.keys()
        items = [
            loaded(
                file,
                word,
                file.source,
                title=f"{word} {file.source}",
                metadata={word: file.source, "tags": ["x", file.source]},
            )
            for file in files.values()
        ]
        assert batches.save(session, collection.id, items, CHUNKER).document_ids == numbers.keys()
        return batches.publish(session, collection.id, numbers)

    def test_none(self, session, collection):
        assert batches.begin(session, {}) == {}
        assert batches.save(session, collection.id, [], CHUNKER).document_ids == frozenset()
        assert batches.publish(session, collection.id, {}).document_ids == frozenset()
        assert changes(session, collection) == []

    def test_of_a_collection_that_was_deleted(self, session, upload, collection):
        file = begin_one(session, upload())
        collections.delete(session, collection.id)
        assert batches.begin(session, {file.document_id: 1}) == {}
        saved = batches.save(session, collection.id, [loaded(file, "x")], CHUNKER)
        published = batches.publish(session, collection.id, {file.document_id: 1})
        assert saved.document_ids == published.document_ids == frozenset()


class TestRefusing:
    def test_metadata_that_no_filter_finds_fails_its_document_alone(self, session, upload, collection):
        """Even where it is too much only together with the user's own."""
        meta = {"own": list(range(10))}
        uploads = [upload(source=name, meta=meta) for name in ("good", "long", "both")]
        files = {f.source: f for f in batches.begin(session, {u.document.id: 1 for u in uploads}).values()}
        said = {"good": ["x"], "long": ["x"] * (MAX_VALUES + 1), "both": ["x"] * (MAX_VALUES - 5)}
        items = [loaded(file, "word", metadata={"tags": said[name]}) for name, file in files.items()]
        saved = batches.save(session, collection.id, items, CHUNKER)
        assert saved.document_ids == {files["good"].document_id}
        assert saved.refused.keys() == {files["long"].document_id, files["both"].document_id}
        assert {error.code for error in saved.refused.values()} == {"invalid_metadata"}
        published = batches.publish(session, collection.id, {f.document_id: 1 for f in files.values()})
        assert published.document_ids == saved.document_ids
        assert chunks.count(session) == 1


class TestComingBack:
    """A source that is deleted and uploaded again counts its revisions from one again."""

    def test_an_old_text_is_not_taken_for_the_new_one(self, session, upload, collection):
        file = begin_one(session, upload("a"))
        removal.delete(session, file.document_id)
        again = upload("b")
        assert (
            batches.save(session, collection.id, [loaded(file, "old")], CHUNKER).document_ids == frozenset()
        )
        assert begin_one(session, again).content_hash == "b" * 64

    @pytest.mark.parametrize("content", ["a", "b"], ids=["same bytes", "other bytes"])
    def test_what_was_not_saved_is_not_served(self, session, upload, collection, content):
        file = begin_one(session, upload("a"))
        batches.save(session, collection.id, [loaded(file, "old")], CHUNKER)
        removal.delete(session, file.document_id)
        again = upload(content)
        published = batches.publish(session, collection.id, {file.document_id: 1})
        assert published.document_ids == frozenset()
        assert begin_one(session, again).content_hash == content * 64


def test_a_later_attempt_leaves_no_chunk_of_an_earlier_one(session, upload, save, collection):
    """The worker was killed after it had saved; meanwhile the title changed, and with it the chunks."""
    upserted = upload("a")
    save(upserted, words=("under", "the", "old", "title"))
    numbers = save(upserted, words=("under", "the", "new"))
    batches.publish(session, collection.id, numbers)
    assert texts(session, upserted.document.id) == ["under", "the", "new"]
    assert documents.get(session, upserted.document.id).n_chunks == 3


class TestTogetherWithOthers:
    def test_chunks_that_another_process_cuts_go_with_their_revision(
        self, session, sessions, upload, ingest, collection
    ):
        """It has read the text of a revision, and writes the chunks while the next revision is served."""
        first = upload("a")
        ingest(first)
        numbers = {first.document.id: upload("b").revision}
        session.commit()
        cutting = sessions()
        kept = loaded_texts.newest_text(cutting, first.document.id)
        faults = []

        def serve():
            try:
                with sessions.begin() as own:
                    files = batches.begin(own, numbers)
                    items = [loaded(file, "new") for file in files.values()]
                    batches.save(own, collection.id, items, CHUNKER)
                    batches.publish(own, collection.id, numbers)
            except Exception as error:
                faults.append(error)

        serving = threading.Thread(target=serve)
        serving.start()
        serving.join(0.3)
        assert serving.is_alive(), "it waits for the other"
        made = chunks_of(first.document.id, ("one two",), OTHER_CHUNKER)
        chunks.insert(cutting, kept.revision, OTHER_CHUNKER, made)
        cutting.commit()
        cutting.close()
        serving.join()
        assert faults == []
        assert texts(session, first.document.id) == ["new"]

    def test_steps_and_patches_in_any_order_never_wait_in_a_circle(
        self, session, sessions, upload, collection
    ):
        n_documents, n_rounds = 6, 8
        ids = [upload(source=str(n)).document.id for n in range(n_documents)]
        files = batches.begin(session, dict.fromkeys(ids, 1))
        session.commit()
        faults = []

        def work(order):
            try:
                for _ in range(n_rounds):
                    items = [loaded(files[key], "x", str(key)) for key in order]
                    with sessions.begin() as own:
                        batches.save(own, collection.id, items, CHUNKER)
                    with sessions.begin() as own:
                        batches.publish(own, collection.id, dict.fromkeys(order, 1))
            except Exception as error:
                faults.append(error)

        def patch():
            try:
                for turn in range(n_rounds):
                    for key in ids:
                        with sessions.begin() as own:
                            documents.patch(own, key, meta={"turn": turn})
            except Exception as error:
                faults.append(error)

        threads = [
            threading.Thread(target=work, args=(ids,)),
            threading.Thread(target=work, args=(ids[::-1],)),
            threading.Thread(target=patch),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        assert len(changes(session, collection)) == 3 * n_rounds * n_documents
        for key in ids:
            document = documents.get(session, key)
            assert (document.status, document.n_chunks) == ("ready", 2)
            assert document.meta == {"turn": n_rounds - 1}
