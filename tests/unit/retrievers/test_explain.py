"""Explanations against counting by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexing.encoding.fake import WordEncoder
from indexing.snapshot import Snapshot
from indexing.types import Chunk, ChunkId, DocumentId, TokenVectors
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever
from retrievers.explain import Place, align, places_of, ranks_of
from retrievers.hits import fuse_rankings
from retrievers.hybrid import HybridRetriever
from retrievers.types import Hit, Passage, Query
from tests.small_index import build_index, made_up_chunks, unit_vectors

CHUNKS = made_up_chunks(300, seed=31)
VECTORS = unit_vectors(20, CHUNKS.vectors.shape[1], np.random.default_rng(32))
TEXTS = ("river", "stone bridge paper", "zebra", "harbour letter copper salt engine", "")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    with build_index(tmp_path_factory.mktemp("explain") / "v", CHUNKS) as opened:
        yield opened


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.sampled_from(TEXTS),
    number=st.integers(0, len(VECTORS) - 1),
    method=st.sampled_from(["convex", "rrf"]),
    alpha=st.floats(0, 1),
    candidate_k=st.integers(1, 300),
)
def test_what_the_lists_give_adds_up_to_the_score(
    snapshot: Snapshot, text: str, number: int, method: str, alpha: float, candidate_k: int
) -> None:
    retriever = HybridRetriever(snapshot, method=method, alpha=alpha, candidate_k=candidate_k)
    query = Query(text=text, vector=VECTORS[number])
    (hits,) = retriever.retrieve([query], 20)
    assert hits
    for hit in hits:
        shares = [place.share or 0 for place in places_of(passage(hit), {})]
        assert sum(shares) == pytest.approx(hit.score, rel=1e-5)


def test_the_ranks_in_the_lists_are_those_of_the_retrievers(snapshot: Snapshot) -> None:
    query = Query(text="stone bridge", vector=VECTORS[0])
    alone = {"bm25": Bm25Retriever(snapshot), "dense": DenseRetriever(snapshot)}
    ranks = {
        name: {hit.chunk_id: hit.rank for hit in retriever.retrieve([query], 50)[0]}
        for name, retriever in alone.items()
    }
    for method in ("convex", "rrf"):
        (hits,) = HybridRetriever(snapshot, method=method, candidate_k=50).retrieve([query], 50)
        for hit in hits:
            expected = {name: of[hit.chunk_id] for name, of in ranks.items() if hit.chunk_id in of}
            assert dict(hit.ranks) == expected


def test_fused_searches_say_what_each_gave() -> None:
    first = [a_hit(1, 0.9, 1), a_hit(2, 0.5, 2)]
    second = [a_hit(2, 0.7, 1)]
    hits = fuse_rankings([first, second], [1.0, 0.5], k=1, top_k=5)
    assert [hit.chunk_id for hit in hits] == [2, 1]
    assert hits[0].ranks == {"variant 1": 2, "variant 2": 1}
    for hit in hits:
        assert sum(hit.shares.values()) == pytest.approx(hit.score)


def test_one_list_has_all_of_the_score() -> None:
    hit = a_hit(1, 0.9, 3)
    assert places_of(passage(hit), {}) == (Place(name="dense", rank=3, score=0.9, share=0.9),)


def test_ranks_are_looked_for_as_deep_as_is_said(snapshot: Snapshot) -> None:
    retriever, query = DenseRetriever(snapshot), Query(text="", vector=VECTORS[1])
    (everything,) = retriever.retrieve([query], len(CHUNKS))
    wanted = [everything[place].chunk_id for place in (0, 290)]
    assert [hit.rank for hit in ranks_of(retriever, query, wanted, deepest=300).values()] == [1, 291]
    assert [hit.rank for hit in ranks_of(retriever, query, wanted, deepest=200).values()] == [1]


def test_alignment_is_maxsim_with_the_places_of_the_tokens() -> None:
    encoder = WordEncoder()
    query, text = "green tea", "Guide\nWarm TEA is green."
    asked, given = (encoder.encode_documents([item], with_tokens=True).tokens[0] for item in (query, text))
    found = align(query, asked, text, given, skipped=len("Guide\n"))
    assert found is not None
    naive = sum(max(float(q @ d) for d in given.vectors) for q in asked.vectors)
    assert found.score == pytest.approx(naive) == pytest.approx(2.0)
    own = text.removeprefix("Guide\n")
    assert [(token.token, own[token.passage_start : token.passage_end]) for token in found.tokens] == [
        ("green", "green"),
        ("tea", "TEA"),
    ]


def test_a_weighed_alignment_is_the_weighed_sum() -> None:
    encoder = WordEncoder()
    asked, given = encoder.encode_documents(["green tea", "cold tea"], with_tokens=True).tokens
    found = align("green tea", asked, "cold tea", given, weights=np.array([0.75, 0.25], np.float32))
    assert found is not None
    products = [max(float(q @ d) for d in given.vectors) for q in asked.vectors]
    assert found.score == pytest.approx(0.75 * products[0] + 0.25 * products[1])
    assert [(token.weight, token.score) for token in found.tokens] == [
        (0.75, products[0]),
        (0.25, products[1]),
    ]


def test_a_token_may_be_nearest_to_a_heading() -> None:
    encoder = WordEncoder()
    asked, given = encoder.encode_documents(["guide", "Guide\nTea"], with_tokens=True).tokens
    found = align("guide", asked, "Guide\nTea", given, skipped=6)
    assert found is not None
    assert (found.tokens[0].nearest, found.tokens[0].passage_start) == ("Guide", None)


def test_nothing_is_aligned_with_nothing() -> None:
    none = TokenVectors(vectors=np.empty((0, 4), np.float32), offsets=np.empty((0, 2), np.int32))
    assert align("", none, "", none) is None


def a_hit(chunk_id: int, score: float, rank: int) -> Hit:
    return Hit(
        chunk_id=ChunkId(chunk_id), document_id=DocumentId(1), score=score, rank=rank, scores={"dense": score}
    )


def passage(hit: Hit) -> Passage:
    chunk = Chunk(id=hit.chunk_id, document_id=hit.document_id, ordinal=0, text="x", start=0, end=1)
    return Passage(
        chunk=chunk,
        score=hit.score,
        rank=hit.rank,
        title=None,
        source="s",
        scores=hit.scores,
        ranks=hit.ranks,
        shares=hit.shares,
    )
