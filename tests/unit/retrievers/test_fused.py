"""The fused retriever: what a hit keeps, against the retrievers by themselves."""

from __future__ import annotations

import numpy as np
import pytest

from indexing.snapshot import Snapshot
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever
from retrievers.fused import FusionSpec
from retrievers.fusion import METHODS, Method
from retrievers.hybrid import HybridRetriever
from retrievers.modes import MODES, Resources, Tuning, mode_spec
from retrievers.types import Hit, Query
from tests.small_index import SmallChunks, build_index, made_up_chunks, unit_vectors

CANDIDATES = 30


@pytest.fixture(scope="module")
def chunks() -> SmallChunks:
    return made_up_chunks(200, seed=20)


@pytest.fixture(scope="module")
def snapshot(chunks: SmallChunks, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return build_index(tmp_path_factory.mktemp("fused") / "v", chunks)


@pytest.fixture(scope="module")
def query(chunks: SmallChunks) -> Query:
    vector = unit_vectors(1, chunks.vectors.shape[1], np.random.default_rng(21))[0]
    return Query(text="stone bridge", vector=vector)


def retrieve(snapshot: Snapshot, query: Query, spec: FusionSpec, top_k: int = 20) -> list[Hit]:
    resources = Resources(
        snapshot=snapshot,
        texts=lambda ids: [""] * len(ids),
        rank_bm25=lambda: Bm25Retriever(snapshot),
        tuning=Tuning(candidate_k=CANDIDATES),
    )
    return mode_spec("fused", spec).build(resources).retrieve([query], top_k)[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_hit_keeps_rank_score_and_share_of_each_list(
    snapshot: Snapshot, query: Query, method: Method
) -> None:
    hits = retrieve(snapshot, query, FusionSpec(method=method), 200)
    alone = {
        "bm25": Bm25Retriever(snapshot).retrieve([query], 200)[0],
        "dense": DenseRetriever(snapshot).retrieve([query], 200)[0],
    }
    for name, ranking in alone.items():
        known = {hit.chunk_id: hit for hit in ranking}
        listed = [hit for hit in hits if name in hit.ranks]
        assert len(listed) == len(ranking)
        for hit in listed:
            assert hit.ranks[name] == known[hit.chunk_id].rank
            assert hit.scores[name] == known[hit.chunk_id].score
    for hit in hits:
        assert sum(hit.shares.values()) == pytest.approx(hit.score, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
def test_convex_over_both_is_the_hybrid_retriever(snapshot: Snapshot, query: Query, alpha: float) -> None:
    spec = FusionSpec(method="convex", weights={"dense": alpha, "bm25": 1 - alpha})
    (expected,) = HybridRetriever(snapshot, alpha=alpha, candidate_k=CANDIDATES).retrieve([query], 20)
    found = retrieve(snapshot, query, spec)
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], rel=1e-5)
    assert {hit.chunk_id: hit.scores for hit in found} == {hit.chunk_id: hit.scores for hit in expected}


def test_one_retriever_by_itself_keeps_its_order(snapshot: Snapshot, query: Query) -> None:
    (alone,) = DenseRetriever(snapshot).retrieve([query], 20)
    found = retrieve(snapshot, query, FusionSpec(retrievers=("dense",)))
    assert [hit.chunk_id for hit in found] == [hit.chunk_id for hit in alone]


def test_what_is_fused_says_what_a_query_needs() -> None:
    assert not mode_spec("fused", FusionSpec(retrievers=("bm25", "rank_bm25"))).needs_vector
    assert mode_spec("fused", FusionSpec(retrievers=("bm25", "dense"))).needs_vector
    assert mode_spec("bm25") is MODES["bm25"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"retrievers": ()}, "at least one"),
        ({"retrievers": ("bm25", "bm25")}, "once"),
        ({"method": "average"}, "average"),
        ({"method": "convex", "weights": {"late": 1.0}}, "late"),
        ({"weights": {"bm25": 1.0}}, "weighted_rrf"),
        ({"method": "dbsf", "weights": {"bm25": -1.0}}, "from 0 up"),
        ({"method": "dbsf", "weights": {"bm25": float("nan")}}, "from 0 up"),
        ({"method": "dbsf", "weights": {"bm25": 0.0, "dense": 0.0}}, "above 0"),
        ({"k": 0}, "at least 1"),
    ],
)
def test_a_fusion_that_makes_no_sense_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FusionSpec(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fused", "magic"])
def test_only_modes_can_be_fused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        mode_spec("fused", FusionSpec(retrievers=("bm25", name)))


def test_a_mode_that_fuses_nothing_takes_no_fusion() -> None:
    with pytest.raises(ValueError, match="dense"):
        mode_spec("dense", FusionSpec())
