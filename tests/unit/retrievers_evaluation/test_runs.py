"""From chunks to documents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from indexing.types import ChunkId, DocumentId
from retrievers.evaluation.runs import rank_documents, without_own_id
from retrievers.types import Hit

NAMES = {number: f"d{number}" for number in range(6)}


def hit(document: int, score: float, rank: int = 1) -> Hit:
    return Hit(chunk_id=ChunkId(rank), document_id=DocumentId(document), score=score, rank=rank)


def test_best_chunk_gives_the_score() -> None:
    hits = [hit(1, 0.9), hit(2, 0.8), hit(1, 0.1), hit(3, -0.5), hit(3, -0.2)]
    assert rank_documents(hits, NAMES, 10) == [("d1", 0.9), ("d2", 0.8), ("d3", -0.2)]


def test_ties_go_by_name() -> None:
    assert rank_documents([hit(3, 1.0), hit(1, 1.0), hit(2, 1.0)], NAMES, 2) == [("d1", 1.0), ("d2", 1.0)]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.1, 0.5, 0.9]))), st.randoms())
def test_order_of_hits_is_of_no_account(pairs: list[tuple[int, float]], random) -> None:
    hits = [hit(*pair) for pair in pairs]
    expected = rank_documents(hits, NAMES, 4)
    random.shuffle(hits)
    assert rank_documents(hits, NAMES, 4) == expected
    assert rank_documents(hits, NAMES, 2) == expected[:2]


def test_own_id_is_left_out() -> None:
    run = {"a": [("b", 2.0), ("a", 1.0)], "b": [("c", 1.0)]}
    assert without_own_id(run) == {"a": [("b", 2.0)], "b": [("c", 1.0)]}
