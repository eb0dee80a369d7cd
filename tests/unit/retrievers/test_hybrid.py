"""The hybrid retriever against a fusion of full brute-force rankings."""

from __future__ import annotations

import numpy as np
import pytest

from indexing.snapshot import Snapshot
from retrievers.hybrid import HybridRetriever
from retrievers.types import Query
from tests import oracles
from tests.small_index import SmallChunks, build_index, made_up_chunks, unit_vectors

CANDIDATES = 30


@pytest.fixture(scope="module")
def chunks() -> SmallChunks:
    return made_up_chunks(200, seed=20)


@pytest.fixture(scope="module")
def snapshot(chunks: SmallChunks, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return build_index(tmp_path_factory.mktemp("hybrid") / "v", chunks)


def naive(chunks: SmallChunks, query: Query, method: str, alpha: float) -> list[tuple[int, float]]:
    """Candidates of both, each scored by both, one at a time."""
    assert query.vector is not None
    bm25 = dict(zip(chunks.chunk_ids.tolist(), oracles.bm25(chunks, query.text), strict=True))
    dense = dict(zip(chunks.chunk_ids.tolist(), oracles.cosine(chunks, query.vector), strict=True))
    by_term = [i for i in oracles.ranked(chunks, np.array(list(bm25.values()))) if bm25[i] > 0][:CANDIDATES]
    by_vector = oracles.ranked(chunks, np.array(list(dense.values())))[:CANDIDATES]
    union = set(by_term) | set(by_vector)
    fused = {}
    for i in union:
        if method == "rrf":
            fused[i] = sum(1 / (61 + ranking.index(i)) for ranking in (by_term, by_vector) if i in ranking)
        else:
            semantic = (dense[i] + 1) / (max(dense[j] for j in union) + 1)
            highest = max(bm25[j] for j in union)
            fused[i] = alpha * semantic + (1 - alpha) * bm25[i] / highest if highest else semantic
    return sorted(fused.items(), key=lambda item: (-np.float32(item[1]), item[0]))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("method", ["convex", "rrf"])
@pytest.mark.parametrize("text", ["stone bridge", "copper salt letter harbour", "zebra"])
def test_it_is_the_naive_fusion(
    snapshot: Snapshot, chunks: SmallChunks, text: str, method: str, alpha: float
) -> None:
    vector = unit_vectors(1, chunks.vectors.shape[1], np.random.default_rng(21))[0]
    query = Query(text=text, vector=vector)
    retriever = HybridRetriever(snapshot, method=method, alpha=alpha, candidate_k=CANDIDATES)  # type: ignore[arg-type]

    (hits,) = retriever.retrieve([query], 15)

    expected = naive(chunks, query, method, alpha)[:15]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], rel=1e-5)
    clear = [
        i for i, score in expected if [round(other, 5) for _, other in expected].count(round(score, 5)) == 1
    ]
    assert [hit.chunk_id for hit in hits if hit.chunk_id in clear] == clear
    bm25 = dict(zip(chunks.chunk_ids.tolist(), oracles.bm25(chunks, text), strict=True))
    assert [hit.scores["bm25"] for hit in hits] == pytest.approx(
        [bm25[hit.chunk_id] for hit in hits], rel=1e-5
    )


def test_an_impossible_alpha_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(ValueError, match="alpha"):
        HybridRetriever(snapshot, alpha=1.1)


def test_a_query_without_a_vector_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(ValueError, match="vector"):
        HybridRetriever(snapshot).retrieve([Query(text="river")], 3)
