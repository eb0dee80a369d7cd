"""Chunks and vectors: written in bulk, read one statement at a time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import event

from app.db import chunks, collections, documents, removal, vectors
from app.db.vectors import StoredVector
from indexing.types import Chunk, stable_id, text_hash

NOW = datetime(2024, 5, 1, tzinfo=UTC)
CHUNKER, OTHER, ENCODER = "c" * 16, "d" * 16, "e" * 16


def chunk(document_id, ordinal, text="text", chunker=CHUNKER, **others):
    return Chunk(
        id=stable_id(document_id, chunker, ordinal, text),
        document_id=document_id,
        ordinal=ordinal,
        text=text,
        start=10 * ordinal,
        end=10 * ordinal + len(text),
        **{"heading_path": ("Title", "Größe"), "page": 3, "n_tokens": 7, **others},
    )


@pytest.fixture
def collection(session):
    return collections.create(session, "papers")


@pytest.fixture
def document_ids(session, collection):
    return [
        documents.upsert_pending(
            session,
            collection=collection,
            source=source,
            title=f"Title of {source}",
            content_hash="a" * 64,
            n_bytes=1,
        ).document.id
        for source in ("one", "two")
    ]


@pytest.fixture
def statements(engine):
    """The SELECTs that were sent."""
    seen = []

    def listen(_connection, _cursor, statement, *_others):
        if statement.startswith("SELECT"):
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", listen)
    return seen


class TestChunks:
    def test_come_back_as_they_were(self, session, document_ids):
        kept = [chunk(document_ids[0], 0, "a “text”\n\U0001f600"), chunk(document_ids[0], 1, page=None)]
        assert chunks.insert(session, 1, CHUNKER, kept) == 2
        assert chunks.of_document(session, document_ids[0]) == kept

    def test_inserting_twice_keeps_one_and_takes_the_later_revision(self, session, document_ids):
        first = [chunk(document_ids[0], ordinal) for ordinal in range(3)]
        chunks.insert(session, 1, CHUNKER, first)
        moved = [chunk(document_ids[0], ordinal, page=9) for ordinal in range(3)]
        chunks.insert(session, 2, CHUNKER, moved)
        assert chunks.of_document(session, document_ids[0]) == moved

    def test_thousands_at_once(self, session, document_ids):
        many = [chunk(document_ids[0], ordinal, f"text {ordinal}") for ordinal in range(3000)]
        chunks.insert(session, 1, CHUNKER, many)
        assert len(chunks.load_passages(session, [item.id for item in many])) == 3000
        assert chunks.count(session, chunker=CHUNKER) == 3000

    def test_none(self, session, collection):
        assert chunks.insert(session, 1, CHUNKER, []) == 0
        assert chunks.load_passages(session, []) == {}
        assert chunks.ids_of_collection(session, collection.id, CHUNKER).tolist() == []

    def test_are_read_by_chunker_and_by_part(self, session, document_ids):
        chunks.insert(session, 1, CHUNKER, [chunk(document_ids[0], ordinal) for ordinal in range(4)])
        chunks.insert(session, 1, OTHER, [chunk(document_ids[0], 0, "other", OTHER)])
        part = chunks.of_document(session, document_ids[0], chunker=CHUNKER, after_ordinal=0, limit=2)
        assert [item.ordinal for item in part] == [1, 2]
        assert chunks.delete(session, document_ids[0], chunker=OTHER) == 1
        assert chunks.count(session) == 4

    def test_ids_are_sorted(self, session, document_ids, collection):
        kept = [chunk(document_id, ordinal) for document_id in document_ids for ordinal in range(5)]
        chunks.insert(session, 1, CHUNKER, kept)
        ids = chunks.ids_of_collection(session, collection.id, CHUNKER)
        assert ids.tolist() == sorted(item.id for item in kept)
        some = chunks.ids_of_documents(session, document_ids[:1], CHUNKER)
        assert some.tolist() == sorted(item.id for item in kept if item.document_id == document_ids[0])


class TestPassages:
    def test_carry_title_and_source_in_one_statement(self, session, document_ids, statements):
        kept = [chunk(document_id, ordinal) for document_id in document_ids for ordinal in range(100)]
        chunks.insert(session, 1, CHUNKER, kept)
        statements.clear()
        found = chunks.load_passages(session, [item.id for item in kept])
        assert len(statements) == 1
        assert {item.id: item for item in kept} == {key: stored.chunk for key, stored in found.items()}
        assert {(stored.title, stored.source) for stored in found.values()} == {
            ("Title of one", "one"),
            ("Title of two", "two"),
        }

    def test_leave_out_what_is_gone_or_another_collections(self, session, document_ids, collection):
        kept = [chunk(document_id, 0) for document_id in document_ids]
        chunks.insert(session, 1, CHUNKER, kept)
        removal.delete(session, document_ids[0])
        ids = [item.id for item in kept] + [12345]
        assert list(chunks.load_passages(session, ids)) == [kept[1].id]
        other = collections.create(session, "other")
        assert chunks.load_passages(session, ids, collection_id=other.id) == {}
        assert len(chunks.load_passages(session, ids, collection_id=collection.id)) == 1
        assert chunks.load(session, 12345) is None
        assert chunks.load(session, kept[1].id).chunk == kept[1]


class TestIterating:
    def test_of_documents_gives_each_text_with_its_vector(self, session, document_ids):
        kept = [chunk(document_id, n, f"t{n}") for document_id in document_ids for n in range(11)]
        chunks.insert(session, 1, CHUNKER, reversed(kept))
        chunks.insert(session, 1, OTHER, [chunk(document_ids[0], 0, "other", OTHER)])
        key = text_hash(kept[3].contextual_text)
        vectors.save(session, ENCODER, 1, [StoredVector(text_hash=key, vector=b"ab")])
        vectors.save(session, "another", 1, [StoredVector(text_hash=key, vector=b"no")])
        found = list(chunks.of_documents(session, [*document_ids, 999], CHUNKER, ENCODER))
        in_order = sorted(kept, key=lambda item: (item.document_id, item.ordinal))
        assert [(entry.chunk_id, entry.document_id, entry.text) for entry in found] == [
            (item.id, item.document_id, item.contextual_text) for item in in_order
        ]
        for entry in found:
            assert entry.text_hash == text_hash(entry.text)
            assert entry.vector == (b"ab" if entry.text_hash == key else None)

    @pytest.mark.parametrize("n_chunks", [0, 499, 500, 501])
    def test_texts_come_by_id_whatever_their_number(self, session, document_ids, collection, n_chunks):
        kept = [chunk(document_ids[0], ordinal) for ordinal in range(n_chunks)]
        chunks.insert(session, 1, CHUNKER, kept)
        found = list(chunks.iterate_texts(session, collection.id, CHUNKER))
        assert [chunk_id for chunk_id, _, _ in found] == sorted(item.id for item in kept)

    def test_texts_are_those_that_are_indexed(self, session, document_ids, collection):
        item = chunk(document_ids[0], 0)
        chunks.insert(session, 1, CHUNKER, [item])
        found = list(chunks.iterate_texts(session, collection.id, CHUNKER))
        assert found == [(item.id, item.document_id, item.contextual_text)]


class TestVectors:
    @staticmethod
    def stored(number, **others):
        return StoredVector(text_hash=f"{number:064d}", vector=bytes([number]) * 4, **others)

    def test_are_known_and_loaded_by_encoder(self, session):
        vectors.save(session, ENCODER, 2, [self.stored(1), self.stored(2)])
        hashes = [f"{number:064d}" for number in range(4)]
        assert vectors.known(session, ENCODER, hashes) == {hashes[1], hashes[2]}
        assert vectors.load(session, ENCODER, hashes) == {hashes[1]: b"\x01" * 4, hashes[2]: b"\x02" * 4}
        assert vectors.known(session, "another", hashes) == set()

    def test_more_than_one_statement_takes(self, session):
        many = [StoredVector(text_hash=f"{number:064d}", vector=b"v") for number in range(1700)]
        vectors.save(session, ENCODER, 1, many)
        hashes = [item.text_hash for item in many]
        assert vectors.known(session, ENCODER, hashes) == set(hashes)
        assert len(vectors.load(session, ENCODER, hashes)) == 1700

    def test_saving_twice_keeps_the_first(self, session):
        vectors.save(session, ENCODER, 2, [self.stored(1), self.stored(1)])
        vectors.save(session, ENCODER, 2, [StoredVector(text_hash=f"{1:064d}", vector=b"other")])
        assert vectors.load(session, ENCODER, [f"{1:064d}"]) == {f"{1:064d}": b"\x01" * 4}

    def test_token_vectors_can_be_added(self, session):
        vectors.save(session, ENCODER, 2, [self.stored(1), self.stored(2)])
        hashes = [f"{number:064d}" for number in (1, 2)]
        assert vectors.known(session, ENCODER, hashes, with_tokens=True) == set()
        with_tokens = self.stored(1, tokens=b"tokens", n_tokens=3)
        vectors.save(session, ENCODER, 2, [with_tokens])
        vectors.save(session, ENCODER, 2, [self.stored(1)])
        assert vectors.known(session, ENCODER, hashes, with_tokens=True) == {hashes[0]}
        assert vectors.load_tokens(session, ENCODER, hashes) == {hashes[0]: with_tokens}

    def test_those_of_texts_that_no_chunk_has_go_at_once(self, session, document_ids):
        kept = chunk(document_ids[0], 0)
        chunks.insert(session, 1, CHUNKER, [kept])
        used = StoredVector(text_hash=text_hash(kept.contextual_text), vector=b"v")
        vectors.save(session, ENCODER, 1, [used, self.stored(1), self.stored(2)])
        vectors.save(session, "old", 1, [self.stored(1)])
        assert vectors.forget_unused(session, [used.text_hash, f"{1:064d}", f"{9:064d}"]) == 2
        hashes = [used.text_hash, f"{1:064d}", f"{2:064d}"]
        assert vectors.known(session, ENCODER, hashes) == {used.text_hash, f"{2:064d}"}

    def test_a_collection_takes_along_what_only_it_has(self, session, document_ids):
        other = collections.create(session, "other")
        there = documents.upsert_pending(
            session, collection=other, source="s", content_hash="c" * 64, n_bytes=1
        ).document.id
        shared, own = chunk(document_ids[0], 0), chunk(document_ids[0], 1, "own")
        chunks.insert(session, 1, CHUNKER, [shared, own, chunk(there, 0)])
        hashes = [text_hash(item.contextual_text) for item in (shared, own)]
        vectors.save(session, ENCODER, 1, [StoredVector(text_hash=key, vector=b"v") for key in hashes])
        owner = documents.get(session, document_ids[0]).collection_id
        assert vectors.forget_collection(session, owner) == 1
        assert vectors.known(session, ENCODER, hashes) == {hashes[0]}
