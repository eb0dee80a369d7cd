"""Reranking by MaxSim: from the index where it keeps token vectors, else by encoding the passages."""

from __future__ import annotations

import pytest

from indexing.encoding.fake import WordEncoder
from indexing.snapshot import Snapshot
from indexing.types import Chunk, ChunkId, DocumentId
from retrievers.late_interaction import token_weights
from retrievers.reranking.late import LateInteractionReranker
from retrievers.types import Passage, Query
from tests.encoders import CountingEncoder
from tests.small_index import DIM, SmallChunks, build_index, made_up_chunks
from tests.unit.retrievers.test_late_interaction import build_token_index, tokens_of

CHUNKS = made_up_chunks(40, seed=5)


def passages_of(chunks: SmallChunks) -> list[Passage]:
    return [
        Passage(
            chunk=Chunk(
                id=ChunkId(int(chunk_id)),
                document_id=DocumentId(1),
                ordinal=place,
                text=text,
                start=0,
                end=len(text),
            ),
            score=-float(place),
            rank=place + 1,
            title=None,
            source="made-up",
            scores={"bm25": 1.0},
        )
        for place, (chunk_id, text) in enumerate(zip(chunks.chunk_ids, chunks.texts, strict=True))
    ]


@pytest.fixture(scope="module")
def with_tokens(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return build_token_index(tmp_path_factory.mktemp("with") / "version", CHUNKS)


@pytest.fixture(scope="module")
def without_tokens(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return build_index(tmp_path_factory.mktemp("without") / "version", CHUNKS)


def test_stored_vectors_are_used_where_they_are(with_tokens: Snapshot) -> None:
    encoder = CountingEncoder(dim=DIM)
    reranked = LateInteractionReranker(with_tokens, encoder).rerank(
        Query(text="harbour letter"), passages_of(CHUNKS), 5
    )
    assert (encoder.n_queries, encoder.n_documents) == (1, 0)
    assert [passage.rank for passage in reranked] == [1, 2, 3, 4, 5]
    assert all({"harbour", "letter"} & set(passage.chunk.text.split()) for passage in reranked[:2])
    assert all(passage.scores == {"bm25": 1.0, "rerank": passage.score} for passage in reranked)
    scores = [passage.score for passage in reranked]
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= score <= 1.01 for score in scores)


def test_passages_are_encoded_where_the_index_has_no_token_vectors(without_tokens: Snapshot) -> None:
    encoder = CountingEncoder(dim=DIM)
    query = Query(text="harbour letter", tokens=tokens_of("harbour letter"))
    reranked = LateInteractionReranker(without_tokens, encoder).rerank(query, passages_of(CHUNKS), 40)
    assert encoder.n_documents == len(CHUNKS)
    weights = token_weights(without_tokens, query.text, tokens_of(query.text))
    for passage in reranked:
        best = tokens_of(query.text).vectors @ tokens_of(passage.chunk.text).vectors.T
        assert passage.score == pytest.approx(float(best.max(axis=1) @ weights), abs=1e-5)


def test_nothing_is_left_out_and_ties_keep_their_order(with_tokens: Snapshot) -> None:
    reranker = LateInteractionReranker(with_tokens, WordEncoder(dim=DIM))
    passages = passages_of(CHUNKS)
    reranked = reranker.rerank(Query(text="river"), passages, 100)
    assert {passage.chunk.id for passage in reranked} == {passage.chunk.id for passage in passages}
    order = [(-passage.score, passage.chunk.ordinal) for passage in reranked]
    assert order == sorted(order)


def test_a_query_without_tokens_leaves_the_order(with_tokens: Snapshot) -> None:
    reranker = LateInteractionReranker(with_tokens, WordEncoder(dim=DIM))
    reranked = reranker.rerank(Query(text=" "), passages_of(CHUNKS), 3)
    assert [passage.chunk.ordinal for passage in reranked] == [0, 1, 2]
    assert reranker.rerank(Query(text="river"), [], 3) == []
