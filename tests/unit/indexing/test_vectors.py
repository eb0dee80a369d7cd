"""Nearest neighbours against an exact scan, in small segments and in one with one-bit codes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.snapshot import Snapshot
from indexing.types import Ids
from indexing.vectors import RABITQ_MIN_ROWS
from tests import oracles
from tests.small_index import SmallChunks, build_index, commit_chunks, made_up_chunks, unit_vectors

DIM = 64


@pytest.fixture(scope="module")
def chunks() -> SmallChunks:
    return made_up_chunks(300, seed=4)


@pytest.fixture(scope="module")
def snapshot(chunks: SmallChunks, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return build_index(
        tmp_path_factory.mktemp("vectors") / "v", chunks.rows(slice(0, 200)), chunks.rows(slice(200, 300))
    )


@settings(deadline=None, max_examples=60)
@given(allowed=st.sets(st.integers(0, 70)), seed=st.integers(0, 1000), limit=st.integers(1, 320))
def test_search_is_exact_whatever_is_allowed(
    snapshot: Snapshot, chunks: SmallChunks, allowed: set[int], seed: int, limit: int
) -> None:
    vector = unit_vectors(1, chunks.vectors.shape[1], np.random.default_rng(seed))[0]
    documents = np.array(sorted(4000 + number for number in allowed), dtype=np.int64) if allowed else None

    found = snapshot.vectors.search(vector, limit, snapshot.select(documents))

    scores = oracles.cosine(chunks, vector)
    assert found.chunk_ids.tolist() == oracles.ranked(chunks, scores, allowed=documents)[:limit]
    np.testing.assert_array_equal(found.scores, snapshot.vectors.score(vector, found.chunk_ids))


def test_nothing_allowed_finds_nothing(snapshot: Snapshot, chunks: SmallChunks) -> None:
    assert (
        len(snapshot.vectors.search(chunks.vectors[0], 5, snapshot.select(np.array([], dtype=np.int64)))) == 0
    )
    assert len(snapshot.vectors.search(chunks.vectors[0], 5, snapshot.select(np.array([1])))) == 0


def test_a_score_does_not_depend_on_what_is_beside_it(snapshot: Snapshot, chunks: SmallChunks) -> None:
    together = snapshot.vectors.score(chunks.vectors[0], chunks.chunk_ids)
    alone = [
        snapshot.vectors.score(chunks.vectors[0], chunks.chunk_ids[row : row + 1])[0] for row in range(300)
    ]
    assert together.tolist() == alone
    np.testing.assert_allclose(together, oracles.cosine(chunks, chunks.vectors[0]), rtol=1e-6)


def test_many_equal_vectors_tie_by_chunk_id(tmp_path: Path) -> None:
    chunks = made_up_chunks(1500, seed=5)
    chunks.vectors[:] = chunks.vectors[0]
    snapshot = build_index(tmp_path / "v", chunks)
    found = snapshot.vectors.search(chunks.vectors[0], 10)
    assert found.chunk_ids.tolist() == sorted(chunks.chunk_ids.tolist())[:10]


@pytest.mark.parametrize("shape", [(15,), (1, 16), ()])
def test_a_vector_of_another_shape_is_refused(snapshot: Snapshot, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        snapshot.vectors.search(np.ones(shape, dtype=np.float32), 5)


def test_an_unknown_chunk_has_no_score(snapshot: Snapshot, chunks: SmallChunks) -> None:
    with pytest.raises(KeyError):
        snapshot.vectors.score(chunks.vectors[0], np.array([-1]))


@pytest.fixture(scope="module")
def many() -> SmallChunks:
    """Enough for one-bit codes: vectors around 500 centres."""
    rng = np.random.default_rng(6)
    n = RABITQ_MIN_ROWS + 4000
    vectors = unit_vectors(500, DIM, rng)[rng.integers(0, 500, n)] + 0.8 * unit_vectors(n, DIM, rng)
    chunks = made_up_chunks(n, seed=6, dim=DIM, per_document=9, max_words=4)
    return SmallChunks(
        chunk_ids=chunks.chunk_ids,
        document_ids=chunks.document_ids,
        texts=chunks.texts,
        vectors=(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def large(many: SmallChunks, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """One large segment with codes, one small, and tombstones in the large one."""
    directory = tmp_path_factory.mktemp("large") / "v"
    late = many.document_ids % 20 == 0
    former = many.rows(slice(None))
    former.chunk_ids[late] += 1
    build_index(directory, former)
    commit_chunks(directory, many.rows(late), change=2)
    return Snapshot.open(directory)


def some_documents(chunks: SmallChunks, share: float) -> Ids:
    documents = np.unique(chunks.document_ids)
    return np.sort(np.random.default_rng(8).choice(documents, int(share * len(documents)), replace=False))


def test_large_segments_have_codes(large: Snapshot, many: SmallChunks) -> None:
    assert [segment.kind for segment in large.manifest.segments] == ["rabitq", "flat"]
    assert large.manifest.segments[0].n_dead
    assert large.manifest.n_chunks == len(many)


@pytest.mark.parametrize("share", [None, 0.0005, 0.02, 0.2, 0.6, 0.95])
def test_recall_with_codes(large: Snapshot, many: SmallChunks, share: float | None) -> None:
    rng = np.random.default_rng(7)
    documents = None if share is None else some_documents(many, share)
    found_of_10, found_of_100 = [], []
    for vector in many.vectors[rng.choice(len(many), 25)]:
        vector = vector + 0.3 * unit_vectors(1, DIM, rng)[0]
        ids = large.vectors.search(vector, 100, large.select(documents)).chunk_ids
        expected = oracles.ranked(many, oracles.cosine(many, vector), allowed=documents)[:100]
        assert len(ids) == len(expected)
        found_of_10.extend(np.isin(expected[:10], ids[:10]))
        found_of_100.extend(np.isin(expected, ids))
    assert np.mean(found_of_10) >= 0.99
    assert np.mean(found_of_100) >= 0.98


def test_a_shorter_result_is_a_prefix_with_codes(large: Snapshot, many: SmallChunks) -> None:
    longest = large.vectors.search(many.vectors[5], 100).chunk_ids.tolist()
    for limit in (1, 5, 10, 50):
        assert large.vectors.search(many.vectors[5], limit).chunk_ids.tolist() == longest[:limit]


@pytest.mark.parametrize("share", [0.0005, 0.02, 0.4, 0.95])
def test_bm25_keeps_a_filter_in_a_large_index(large: Snapshot, many: SmallChunks, share: float) -> None:
    documents = some_documents(many, share)
    scores = oracles.bm25(many, "harbour letter")
    matching = set(many.chunk_ids[scores > 0].tolist())
    expected = [i for i in oracles.ranked(many, scores, allowed=documents) if i in matching][:50]
    assert large.lexical.search("harbour letter", 50, large.select(documents)).chunk_ids.tolist() == expected


def test_threads_get_the_same(large: Snapshot, many: SmallChunks) -> None:
    vectors = many.vectors[:20]
    expected = [large.vectors.search(vector, 10).chunk_ids.tolist() for vector in vectors]
    with ThreadPoolExecutor(8) as threads:
        runs = list(
            threads.map(lambda vector: large.vectors.search(vector, 10).chunk_ids.tolist(), [*vectors] * 5)
        )
    assert runs == expected * 5
