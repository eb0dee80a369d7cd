"""Nodes go with the chunks that they rest on, wherever these go."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from app.db import chunks, leftovers, nodes, removal, vectors
from app.db.tables import NodeChildRow, NodeRow, VectorRow
from app.db.vectors import StoredVector
from indexing.nodes import Node
from tests.unit.app.db.papers import CHUNKER

FINGERPRINT = "e" * 16


@pytest.fixture
def tree(session, collection, upload, ingest):
    """Two documents of two chunks; a node over each document, a question, and a summary over all."""
    first, second = upload("a", "a.txt"), upload("b", "b.txt")
    ingest(first)
    ingest(second)
    ids = {
        name: tuple(chunks.ids_of_documents(session, [made.document.id], CHUNKER).tolist())
        for name, made in (("a", first), ("b", second))
    }
    over_a = Node(kind="summary", text="about a", chunks=ids["a"], document_id=first.document.id)
    over_b = Node(kind="summary", text="about b", chunks=ids["b"], document_id=second.document.id)
    asked = Node(kind="question", text="what is b?", chunks=ids["b"][:1], document_id=second.document.id)
    top = Node(kind="summary", text="about both", nodes=(over_a.id, over_b.id), level=2)
    made = {"a": over_a, "b": over_b, "question": asked, "top": top}
    assert nodes.save(session, collection.id, CHUNKER, made.values()) == {n.id for n in made.values()}
    rows = [StoredVector(text_hash=node.text_hash, vector=b"\0\0\0\0") for node in made.values()]
    vectors.save(session, FINGERPRINT, 2, rows)
    return made, {"a": first.document.id, "b": second.document.id}, ids


def texts(session):
    return sorted(session.scalars(select(NodeRow.text)))


def kept_vectors(session):
    return set(session.scalars(select(VectorRow.text_hash)))


def test_leaves_are_found_through_every_level(session, tree):
    made, _, ids = tree
    found = nodes.leaves(session, [made["top"].id, made["question"].id, 12345])
    assert found[made["top"].id].tolist() == sorted(ids["a"] + ids["b"])
    assert found[made["question"].id].tolist() == [ids["b"][0]]
    assert found[12345].tolist() == []


def test_saving_twice_changes_nothing(session, collection, tree):
    made, _, _ = tree
    nodes.save(session, collection.id, CHUNKER, made.values())
    assert len(texts(session)) == 4
    assert session.scalars(select(func.count()).select_from(NodeChildRow)).one() == 7


def test_a_deleted_document_takes_its_nodes_and_their_ancestors(session, collection, tree):
    made, owners, _ = tree
    deleted = removal.delete_all(session, collection.id, [owners["b"]])
    assert texts(session) == ["about a"]
    assert deleted.rows["nodes"] == 3
    assert kept_vectors(session) == {made["a"].text_hash}


def test_replaced_chunks_take_their_nodes(session, tree, upload, ingest):
    ingest(upload("c", "a.txt"), words=("three",))
    assert texts(session) == ["about b", "what is b?"]


@pytest.mark.parametrize(
    "remove",
    [
        lambda session, _collection, owner: chunks.delete(session, owner, chunker=CHUNKER),
        lambda session, collection, _owner: leftovers.forget_chunks(session, collection, CHUNKER),
    ],
    ids=["chunks of a document", "chunks of a chunker"],
)
def test_no_way_of_removing_chunks_leaves_a_node(session, collection, tree, remove):
    _, owners, _ = tree
    remove(session, collection.id, owners["a"])
    left = set(session.scalars(select(NodeChildRow.child_id).where(NodeChildRow.child_kind == "chunk")))
    assert "about a" not in texts(session)
    assert "about both" not in texts(session)
    assert left <= set(chunks.ids_of_collection(session, collection.id, CHUNKER).tolist())


def test_what_rests_on_something_gone_is_not_saved(session, collection, tree):
    made, owners, ids = tree
    removal.delete_all(session, collection.id, [owners["b"]])
    late = [
        Node(kind="summary", text="late", chunks=(*ids["a"], *ids["b"])),
        Node(kind="summary", text="later", nodes=(made["b"].id,), level=2),
        Node(kind="summary", text="empty"),
    ]
    assert nodes.save(session, collection.id, CHUNKER, late) == set()
    assert texts(session) == ["about a"]


def test_a_vector_stays_while_a_node_or_a_chunk_has_its_text(session, collection, tree):
    made, _, _ = tree
    same = Node(kind="question", text="about a", chunks=made["a"].chunks)
    nodes.save(session, collection.id, CHUNKER, [same])
    nodes.forget(session, [made["a"].id])
    assert made["a"].text_hash in kept_vectors(session)
    nodes.forget(session, [same.id])
    assert made["a"].text_hash not in kept_vectors(session)


def test_one_kind_is_removed_bite_by_bite(session, collection, tree):
    while nodes.forget_kind(session, collection.id, "summary", limit=1):
        pass
    assert texts(session) == ["what is b?"]
