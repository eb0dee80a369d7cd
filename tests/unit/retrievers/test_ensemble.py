"""The default mode against loops over the candidates, with token vectors and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.snapshot import Snapshot
from indexing.types import DocumentId
from retrievers.ensemble import BEYOND, EnsembleRetriever, EnsembleSpec
from retrievers.hybrid import HybridRetriever
from retrievers.late_interaction import maxsim, token_weights
from retrievers.neighbours import Smoothing, smoothed
from retrievers.types import Hit, Query
from tests import oracles
from tests.small_index import DIM, WORDS, SmallChunks, build_index, made_up_chunks, unit_vectors
from tests.unit.retrievers.test_late_interaction import build_token_index, tokens_of

SPEC = EnsembleSpec(alpha=0.7, maxsim_weight=0.4, candidate_k=12, smoothing=Smoothing(n_neighbours=4))
CHUNKS = made_up_chunks(90, seed=31)
VECTORS = unit_vectors(8, DIM, np.random.default_rng(32))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    batches = CHUNKS.rows(slice(0, 50)), CHUNKS.rows(slice(50, 90))
    return build_token_index(tmp_path_factory.mktemp("ensemble") / "v", *batches)


def query(text: str, number: int = 0, *, tokens: bool = True) -> Query:
    return Query(text=text, vector=VECTORS[number], tokens=tokens_of(text) if tokens else None)


def naive(snapshot: Snapshot, chunks: SmallChunks, asked: Query) -> dict[int, float]:
    """The smoothed score of every candidate."""
    assert asked.vector is not None
    ids = chunks.chunk_ids.tolist()
    bm25 = dict(zip(ids, oracles.bm25(chunks, asked.text), strict=True))
    dense = dict(zip(ids, oracles.cosine(chunks, asked.vector), strict=True))
    by_term = [i for i in oracles.ranked(chunks, np.array(list(bm25.values()))) if bm25[i] > 0]
    by_vector = oracles.ranked(chunks, np.array(list(dense.values())))
    union = sorted({*by_term[: SPEC.candidate_k], *by_vector[: SPEC.candidate_k]})
    token = dict.fromkeys(union, 0.0)
    weight = 0.0
    if asked.tokens is not None:
        weight = SPEC.maxsim_weight
        weights = token_weights(snapshot, asked.text, asked.tokens)
        token = dict(zip(union, maxsim(snapshot, asked.tokens, np.array(union), weights), strict=True))
    alone = []
    for i in union:
        semantic = (dense[i] + 1) / (max(dense[j] for j in union) + 1)
        highest = max(bm25[j] for j in union)
        both = SPEC.alpha * semantic + (1 - SPEC.alpha) * bm25[i] / highest if highest else semantic
        close = max(token[i], 0.0) / max(token.values()) if max(token.values()) > 0 else 0.0
        alone.append((both + weight * close) / (1 + weight))
    place = {chunk_id: row for row, chunk_id in enumerate(ids)}
    vectors = chunks.vectors[[place[i] for i in union]].astype(np.float16).astype(np.float32)
    return dict(zip(union, smoothed(np.array(alone), vectors, SPEC.smoothing).tolist(), strict=True))


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("text", ["stone bridge", "copper salt letter harbour", "zebra", ""])
def test_candidates_have_the_score_of_a_loop(snapshot: Snapshot, text: str, tokens: bool) -> None:
    asked = query(text, tokens=tokens)
    expected = naive(snapshot, CHUNKS, asked)
    (hits,) = EnsembleRetriever(snapshot, SPEC).retrieve([asked], len(expected))
    assert {hit.chunk_id for hit in hits} == set(expected)
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.chunk_id], abs=1e-3)
    assert {"maxsim" in hit.scores for hit in hits} == {tokens}


@settings(deadline=None, max_examples=30)
@given(
    words=st.lists(st.sampled_from(WORDS), max_size=6),
    number=st.integers(0, len(VECTORS) - 1),
    top_k=st.integers(1, 120),
    tokens=st.booleans(),
)
def test_shares_sum_to_the_score_and_a_shorter_result_is_a_prefix(
    snapshot: Snapshot, words: list[str], number: int, top_k: int, tokens: bool
) -> None:
    asked = query(" ".join(words), number, tokens=tokens)
    retriever = EnsembleRetriever(snapshot, SPEC)
    (everything,) = retriever.retrieve([asked], 200)
    assert sorted(hit.chunk_id for hit in everything) == sorted(CHUNKS.chunk_ids.tolist())
    assert [hit.rank for hit in everything] == list(range(1, 91))
    assert everything == sorted(everything, key=lambda hit: (-hit.score, hit.chunk_id))
    for hit in everything:
        assert sum(hit.shares.values()) == pytest.approx(hit.score, abs=1e-5)
    n_candidates = sum("neighbours" in hit.shares for hit in everything)
    (hits,) = retriever.retrieve([asked], min(top_k, n_candidates))
    assert hits == everything[: min(top_k, n_candidates)]


@settings(deadline=None, max_examples=30)
@given(
    allowed=st.sets(st.sampled_from(np.unique(CHUNKS.document_ids).tolist())),
    text=st.sampled_from(["river stone", "zebra", "harbour"]),
    top_k=st.integers(1, 100),
)
def test_a_filter_is_kept_and_costs_no_hit(
    snapshot: Snapshot, allowed: set[int], text: str, top_k: int
) -> None:
    asked = replace(query(text), allowed_documents=np.array(sorted(allowed), dtype=np.int64))
    (hits,) = EnsembleRetriever(snapshot, SPEC).retrieve([asked], top_k)
    assert {int(hit.document_id) for hit in hits} <= allowed
    n_allowed = int(np.isin(CHUNKS.document_ids, sorted(allowed)).sum())
    assert len(hits) == min(top_k, n_allowed)
    assert len({hit.chunk_id for hit in hits}) == len(hits)


def test_beyond_the_candidates_it_is_bm25_and_vectors(snapshot: Snapshot) -> None:
    asked = query("river stone harbour")
    (hits,) = EnsembleRetriever(snapshot, SPEC).retrieve([asked], 90)
    rest = [hit for hit in hits if "neighbours" not in hit.shares]
    hybrid = HybridRetriever(snapshot, alpha=SPEC.alpha, candidate_k=SPEC.candidate_k)
    known = {hit.chunk_id for hit in hits} - {hit.chunk_id for hit in rest}
    expected = [hit for hit in hybrid.retrieve([asked], 90)[0] if hit.chunk_id not in known]
    assert len(rest) >= 60
    assert [hit.chunk_id for hit in rest] == [hit.chunk_id for hit in expected]
    assert [hit.score for hit in rest] == pytest.approx([hit.score + BEYOND for hit in expected])
    assert min(hit.score for hit in hits if hit not in rest) >= max(hit.score for hit in rest)


def test_a_version_without_token_vectors_is_searched_without(tmp_path: Path, snapshot: Snapshot) -> None:
    with build_index(tmp_path / "v", CHUNKS) as without:
        asked = query("stone bridge")
        (hits,) = EnsembleRetriever(without, SPEC).retrieve([asked], 10)
        (same,) = EnsembleRetriever(snapshot, SPEC).retrieve([replace(asked, tokens=None)], 10)
        assert _plain(hits) == _plain(same)


def test_one_chunk_alone_is_found(snapshot: Snapshot) -> None:
    document = DocumentId(int(CHUNKS.document_ids[0]))
    asked = replace(query("zebra"), allowed_documents=np.array([document], dtype=np.int64))
    (hits,) = EnsembleRetriever(snapshot, SPEC).retrieve([asked], 1)
    assert [hit.document_id for hit in hits] == [document]


@pytest.mark.parametrize("wrong", [{"alpha": 1.1}, {"maxsim_weight": -0.1}, {"candidate_k": 0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"alpha|MaxSim"):
        replace(SPEC, **wrong)  # type: ignore[arg-type]


def test_a_query_without_a_vector_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(ValueError, match="vector"):
        EnsembleRetriever(snapshot).retrieve([Query(text="river")], 3)


def _plain(hits: list[Hit]) -> list[tuple[int, float]]:
    return [(hit.chunk_id, hit.score) for hit in hits]
