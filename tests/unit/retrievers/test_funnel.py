"""Funnel search against a loop over every vector, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from indexing.prefixes import PrefixIndex
from indexing.snapshot import Snapshot
from retrievers.dense import DenseRetriever
from retrievers.funnel import FunnelRetriever, FunnelSteps
from retrievers.types import Query
from tests.small_index import build_index, made_up_chunks, unit_vectors

CHUNKS = made_up_chunks(400, seed=6, dim=32)
QUERIES = [Query(text="", vector=vector) for vector in unit_vectors(6, 32, np.random.default_rng(7))]
EVERY_THIRD = np.unique(CHUNKS.document_ids)[::3]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    halves = [CHUNKS.rows(slice(0, 250)), CHUNKS.rows(slice(250, 400))]
    with build_index(tmp_path_factory.mktemp("funnel") / "v", *halves) as opened:
        yield opened


def naive(query: Query, schedule: list[tuple[int, int]], top_k: int) -> list[int]:
    """The chunks that the steps leave, each step by a sort of what the one before left."""
    vectors = CHUNKS.vectors.astype(np.float16).astype(np.float64)
    allowed = query.allowed_documents
    left = [
        row
        for row, document in enumerate(CHUNKS.document_ids.tolist())
        if allowed is None or document in allowed
    ]
    for dim, n_kept in [*schedule, (32, top_k)]:

        def score(row: int, dim: int = dim) -> float:
            prefix = vectors[row, :dim]
            return float(prefix @ query.vector[:dim] / (np.linalg.norm(prefix) if dim < 32 else 1))

        left = sorted(left, key=lambda row: (-round(score(row), 6), CHUNKS.chunk_ids[row]))[:n_kept]
    return [int(CHUNKS.chunk_ids[row]) for row in left]


@pytest.mark.parametrize("allowed", [None, EVERY_THIRD], ids=["all", "filtered"])
@pytest.mark.parametrize("steps", ["two", "halving"])
def test_the_funnel_is_a_sort_at_every_step(
    snapshot: Snapshot, steps: FunnelSteps, allowed: np.ndarray | None
) -> None:
    funnel = FunnelRetriever(snapshot, first_dim=4, steps=steps, candidate_k=10)
    for plain in QUERIES:
        query = Query(text="", vector=plain.vector, allowed_documents=allowed)
        (hits,) = funnel.retrieve([query], 7)
        expected = naive(query, funnel.schedule(7), 7)
        # Chunks of the same vector are at the border of a step in either order.
        assert [hit.score for hit in hits] == pytest.approx(_scores(plain, expected), abs=1e-5)
        assert len({hit.chunk_id for hit in hits} & set(expected)) >= 6


def test_a_funnel_as_wide_as_the_index_is_the_dense_search(snapshot: Snapshot) -> None:
    for steps in ("two", "halving"):
        funnel = FunnelRetriever(snapshot, first_dim=2, steps=steps, candidate_k=400)
        for query in QUERIES:
            assert funnel.retrieve([query], 50) == DenseRetriever(snapshot).retrieve([query], 50)


def test_the_steps_are_those_of_the_paper(snapshot: Snapshot) -> None:
    halving = FunnelRetriever(snapshot, first_dim=4, steps="halving", candidate_k=50)
    assert halving.schedule(10) == [(4, 200), (8, 100), (16, 50)]
    assert halving.schedule(60) == [(4, 240), (8, 120), (16, 60)]
    assert FunnelRetriever(snapshot, first_dim=4, candidate_k=50).schedule(10) == [(4, 200)]
    assert FunnelRetriever(snapshot, first_dim=99, candidate_k=50).schedule(10) == [(32, 200)]


@pytest.mark.parametrize("dim", [0, 33])
def test_a_prefix_that_the_index_does_not_have_is_refused(snapshot: Snapshot, dim: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 32"):
        PrefixIndex(snapshot.segments, dim)


def _scores(query: Query, chunk_ids: list[int]) -> list[float]:
    row_of = {int(key): row for row, key in enumerate(CHUNKS.chunk_ids)}
    vectors = CHUNKS.vectors.astype(np.float16).astype(np.float64)
    return [float(vectors[row_of[key]] @ query.vector) for key in chunk_ids]
