"""Feedback from the best chunks, on vectors and on terms, against loops."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.analysis import build_analyzer
from indexing.snapshot import Snapshot
from indexing.terms import term_key
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever
from retrievers.prf import PrfRetriever
from retrievers.rm3 import Rm3Retriever, expanded
from retrievers.types import Query
from tests import oracles
from tests.small_index import DIM, WORDS, build_index, made_up_chunks, unit_vectors

CHUNKS = made_up_chunks(120, seed=41)
VECTOR = unit_vectors(1, DIM, np.random.default_rng(42))[0]
TEXTS = dict(zip(CHUNKS.chunk_ids.tolist(), CHUNKS.texts, strict=True))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    batches = CHUNKS.rows(slice(0, 70)), CHUNKS.rows(slice(70, 120))
    return build_index(tmp_path_factory.mktemp("feedback") / "v", *batches)


@pytest.mark.parametrize("allowed", [None, np.unique(CHUNKS.document_ids)[::2]])
def test_vector_feedback_is_the_loop(snapshot: Snapshot, allowed: np.ndarray | None) -> None:
    query = Query(text="", vector=VECTOR, allowed_documents=allowed)
    (first,) = DenseRetriever(snapshot).retrieve([query], 3)
    halves = CHUNKS.vectors.astype(np.float16).astype(np.float64)
    rows = {chunk_id: row for row, chunk_id in enumerate(CHUNKS.chunk_ids.tolist())}
    turned = VECTOR + 0.5 * sum(halves[rows[hit.chunk_id]] for hit in first) / 3
    turned = turned / np.linalg.norm(turned)

    (hits,) = PrfRetriever(snapshot).retrieve([query], 20)

    for hit in hits:
        assert hit.score == pytest.approx(float(halves[rows[hit.chunk_id]] @ turned), abs=1e-5)
        assert hit.scores["dense"] == pytest.approx(float(halves[rows[hit.chunk_id]] @ VECTOR), abs=1e-5)
    within = np.ones(len(CHUNKS), dtype=bool) if allowed is None else np.isin(CHUNKS.document_ids, allowed)
    assert hits[-1].score >= np.sort(halves[within] @ turned)[-20] - 1e-5


def naive_expansion(text: str, texts: list[str], scores: list[float], n_terms: int) -> dict[str, float]:
    analyze = build_analyzer().analyze
    likely: dict[str, float] = defaultdict(float)
    for chunk, score in zip(texts, scores, strict=True):
        terms = analyze(chunk)
        for term in terms:
            likely[term] += score / sum(scores) / len(terms)
    kept = sorted(likely, key=lambda term: (-round(likely[term], 12), term_key(term)))[:n_terms]
    total = sum(likely[term] for term in kept)
    asked = Counter(analyze(text))
    return {
        term: 0.5 * asked[term] / asked.total() + 0.5 * (likely[term] / total if term in kept else 0.0)
        for term in {*asked, *kept}
    }


@settings(deadline=None, max_examples=30)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), n_terms=st.integers(1, 12))
def test_expansion_is_the_loop(snapshot: Snapshot, words: list[str], n_terms: int) -> None:
    text = " ".join(words)
    lexical = snapshot.lexical
    first = lexical.search(text, 10)
    found = expanded(
        lexical.weighted_terms(text), lexical.terms_in(first.chunk_ids), first.scores, n_terms=n_terms
    )
    texts = [TEXTS[chunk_id] for chunk_id in first.chunk_ids.tolist()]
    expected = naive_expansion(text, texts, first.scores.tolist(), n_terms)
    assert sum(found.values()) == pytest.approx(1)
    assert found == pytest.approx({term_key(term): weight for term, weight in expected.items()})


def test_weighted_terms_score_as_bm25_times_the_weights(snapshot: Snapshot) -> None:
    ids = CHUNKS.chunk_ids
    weights = {term_key("river"): 0.25, term_key("salt"): 1.5}
    expected = 0.25 * np.array(oracles.bm25(CHUNKS, "river")) + 1.5 * np.array(oracles.bm25(CHUNKS, "salt"))
    np.testing.assert_allclose(snapshot.lexical.score(weights, ids), expected, rtol=1e-5)
    found = snapshot.lexical.search(weights, 15)
    np.testing.assert_allclose(found.scores, np.sort(expected)[::-1][:15], rtol=1e-5)
    text = "salt river salt"
    repeats = snapshot.lexical.weighted_terms(text)
    np.testing.assert_array_equal(snapshot.lexical.score(repeats, ids), snapshot.lexical.score(text, ids))


def test_terms_of_chunks_are_those_of_their_texts(snapshot: Snapshot) -> None:
    ids = CHUNKS.chunk_ids[[100, 3, 69, 70]]
    analyze = build_analyzer().analyze
    for chunk_id, terms in zip(ids.tolist(), snapshot.lexical.terms_in(ids), strict=True):
        expected = Counter(term_key(term) for term in analyze(TEXTS[chunk_id]))
        assert dict(zip(terms.keys.tolist(), terms.counts.tolist(), strict=True)) == expected
        assert terms.length == expected.total()
    with pytest.raises(KeyError):
        snapshot.lexical.terms_in(np.array([-1]))


@settings(deadline=None, max_examples=30)
@given(
    allowed=st.sets(st.sampled_from(np.unique(CHUNKS.document_ids).tolist())),
    words=st.lists(st.sampled_from([*WORDS, "zebra"]), max_size=3),
    top_k=st.integers(1, 130),
)
def test_rm3_keeps_a_filter_and_loses_nothing_that_bm25_finds(
    snapshot: Snapshot, allowed: set[int], words: list[str], top_k: int
) -> None:
    query = Query(text=" ".join(words), allowed_documents=np.array(sorted(allowed), dtype=np.int64))
    (hits,) = Rm3Retriever(snapshot).retrieve([query], top_k)
    (plain,) = Bm25Retriever(snapshot).retrieve([query], 130)
    assert {int(hit.document_id) for hit in hits} <= allowed
    assert len(hits) >= min(top_k, len(plain))
    (everything,) = Rm3Retriever(snapshot).retrieve([query], 130)
    assert hits == everything[:top_k]
    assert {hit.chunk_id for hit in everything} >= {hit.chunk_id for hit in plain}
    first = {hit.chunk_id: hit.score for hit in plain}
    assert all(hit.scores["bm25"] == first.get(hit.chunk_id, 0.0) for hit in everything)


def test_what_each_term_of_the_expanded_query_adds_is_the_score(snapshot: Snapshot) -> None:
    query = Query(text="river salt")
    retriever = Rm3Retriever(snapshot)
    (hits,) = retriever.retrieve([query], 40)
    names: set[str] = set()
    for hit in hits:
        added = retriever.contributions(query, hit.chunk_id, TEXTS[hit.chunk_id])
        assert sum(added.values()) == pytest.approx(hit.score, rel=1e-5)
        assert set(added) <= set(build_analyzer().analyze(TEXTS[hit.chunk_id]))
        names |= set(added)
    assert names > {"river", "salt"}


def test_what_no_chunk_has_finds_nothing(snapshot: Snapshot) -> None:
    assert Rm3Retriever(snapshot).retrieve([Query(text="zebra"), Query(text="")], 5) == [[], []]


@pytest.mark.parametrize("wrong", [{"n_feedback": 0}, {"n_terms": 0}, {"query_weight": 0.0}])
def test_rm3_refuses_what_makes_no_sense(snapshot: Snapshot, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="RM3"):
        Rm3Retriever(snapshot, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"n_feedback": 0}, {"beta": -1.0}])
def test_vector_feedback_refuses_what_makes_no_sense(snapshot: Snapshot, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Feedback"):
        PrfRetriever(snapshot, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="vector"):
        PrfRetriever(snapshot).retrieve([Query(text="river")], 3)
