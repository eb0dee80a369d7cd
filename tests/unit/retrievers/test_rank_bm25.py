"""The in-memory BM25."""

from __future__ import annotations

import pytest

from indexing.types import ChunkId, DocumentId
from retrievers.rank_bm25 import RankBm25Retriever
from retrievers.types import Query


def retriever(*texts: str) -> RankBm25Retriever:
    return RankBm25Retriever((ChunkId(n), DocumentId(n), text) for n, text in enumerate(texts, start=1))


@pytest.mark.parametrize("texts", [(), ("",), ("the", "of and")], ids=["none", "empty", "stop words"])
def test_without_a_term_there_is_nothing_to_find(texts: tuple[str, ...]) -> None:
    assert retriever(*texts).retrieve([Query(text="river")], 5) == [[]]


def test_terms_are_stemmed_and_chunks_without_one_left_out() -> None:
    texts = ("Bridges over the river", "A garden at night", "Paper and salt", "A window")
    (hits,) = retriever(*texts).retrieve([Query(text="the bridge")], 5)
    assert [hit.chunk_id for hit in hits] == [1]
