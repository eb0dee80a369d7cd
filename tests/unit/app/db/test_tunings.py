"""What was learned for a collection, and generated golden questions, in each database."""

from __future__ import annotations

from app.db import collections, golden, removal, tunings
from app.db.golden import Expected


def test_a_tuning_is_kept_replaced_and_forgotten(session, collection):
    other = collections.create(session, "other")
    assert tunings.get(session, collection.id) is None
    assert not tunings.remove(session, collection.id)
    tunings.put(session, collection.id, {"alpha": 0.5}, {"n_questions": 40})
    tunings.put(session, collection.id, {"alpha": 0.25, "rrf_k": 10}, {"n_questions": 50})
    tunings.put(session, other.id, {"alpha": 0.75}, {})
    kept = tunings.get(session, collection.id)
    assert (kept.values, kept.evidence) == ({"alpha": 0.25, "rrf_k": 10}, {"n_questions": 50})
    assert tunings.remove(session, collection.id)
    assert tunings.get(session, collection.id) is None
    assert tunings.get(session, other.id).values == {"alpha": 0.75}


def test_a_tuning_goes_with_its_collection(session, collection):
    tunings.put(session, collection.id, {"alpha": 0.5}, {})
    collections.delete(session, collection.id)
    session.flush()
    session.expire_all()
    assert tunings.get(session, collection.id) is None


def test_generated_questions_go_apart_and_with_their_document(session, collection, upload, save):
    first, second = upload("a", "a.txt"), upload("b", "b.txt")
    save(first, second)
    golden.put(session, collection.id, "own", [Expected("a.txt")])
    golden.put(session, collection.id, "made", [Expected("a.txt", "one")], generator="sentences-1")
    golden.put(session, collection.id, "made too", [Expected("b.txt", "two")], generator="sentences-1")
    deleted = removal.delete(session, first.document.id)
    assert deleted.rows["golden_questions"] == 1
    assert [item.question for item in golden.list_all(session, collection.id)] == ["own", "made too"]
    assert golden.remove_generated(session, collection.id) == 1
    assert golden.remove_generated(session, collection.id) == 0
    assert [item.question for item in golden.list_all(session, collection.id)] == ["own"]
