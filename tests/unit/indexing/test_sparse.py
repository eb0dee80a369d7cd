"""Sparse vectors in segments: codes, postings and search against loops and dense arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.columns import read_columns, write_columns
from indexing.errors import IndexDamaged, IndexMissing
from indexing.merging import merge_version
from indexing.snapshot import Snapshot
from indexing.sparse_codes import SparseCodes, SparseVector
from indexing.sparse_postings import FILE, SparsePostings, write_sparse_postings
from indexing.types import Ids
from indexing.verification import verify_version
from indexing.version import VersionWriter, create_version
from tests.small_index import SmallChunks, build_index, made_up_chunks, small_spec

N_TERMS = 50
CHUNKS = made_up_chunks(300, seed=3)


def made_up_vectors(n: int, seed: int) -> list[SparseVector]:
    """Every seventh is empty, every tenth is the one before it."""
    rng = np.random.default_rng(seed)
    vectors = []
    for row in range(n):
        size = 0 if row % 7 == 6 else int(rng.integers(1, 12))
        terms = np.sort(rng.choice(N_TERMS, size, replace=False)).astype(np.uint32)
        vectors.append(SparseVector(terms, rng.gamma(2.0, 0.5, size).astype(np.float32)))
        if row % 10 == 9:
            vectors[row] = vectors[row - 1]
    return vectors


CODES = SparseCodes.of(made_up_vectors(len(CHUNKS), 4))
QUERIES = [vector for vector in made_up_vectors(12, 5) if len(vector)]
SPEC = replace(
    small_spec(), settings={"sparse_model": "made-up", "sparse_fingerprint": "aa", "sparse_max_terms": 0}
)


def dense(vector: SparseVector) -> np.ndarray:
    values = np.zeros(N_TERMS)
    values[vector.terms] = vector.weights
    return values


def build(directory: Path, *parts: slice) -> Snapshot:
    """A version with a commit for each part of the chunks."""
    create_version(directory, SPEC)
    with VersionWriter(directory) as writer:
        for change, part in enumerate(parts, start=1):
            rows = np.arange(len(CHUNKS))[part]
            with writer.commit(change=change) as commit:
                commit.add(**CHUNKS.rows(rows).columns(), sparse=CODES.take(rows))
    return Snapshot.open(directory)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return build(tmp_path_factory.mktemp("sparse") / "v", slice(0, 120), slice(120, 300))


def expected(query: SparseVector, chunks: SmallChunks, codes: SparseCodes) -> dict[int, float]:
    """The naive twin: dense inner products with what the codes stand for."""
    products = [float(dense(query) @ dense(codes[row])) for row in range(len(chunks))]
    return {int(key): value for key, value in zip(chunks.chunk_ids, products, strict=True) if value > 0}


@settings(max_examples=50, deadline=None)
@given(
    entries=st.dictionaries(st.integers(0, 2**32 - 1), st.floats(0.015625, 8, width=16), max_size=20),
)
def test_a_coded_weight_is_off_by_half_a_level_at_most(entries: dict[int, float]) -> None:
    terms = np.array(sorted(entries), dtype=np.uint32)
    vector = SparseVector(terms, np.array([entries[term] for term in sorted(entries)], dtype=np.float32))
    codes = SparseCodes.of([vector])
    half = float(codes.scales[0]) / 2
    found = dict(zip(codes[0].terms.tolist(), codes[0].weights.tolist(), strict=True))
    for term, weight in entries.items():
        assert abs(found.get(term, 0.0) - weight) <= half * 1.0001
    again = SparseCodes.from_bytes([codes.to_bytes(0)])
    assert (again[0].terms.tolist(), again[0].weights.tolist()) == (terms.tolist(), list(found.values())) or (
        len(again[0]) < len(terms)
    )
    assert again.to_bytes(0) == codes.to_bytes(0)


@pytest.mark.parametrize("data", [b"", b"footspa1", b"footspa1" + bytes(6), b"otherspa" + bytes(4)])
def test_bytes_that_are_no_sparse_vector_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a sparse vector"):
        SparseCodes.from_bytes([data])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40))
def test_postings_turn_codes_round_and_back(seed: int, n: int) -> None:
    codes = SparseCodes.of(made_up_vectors(n, seed))
    postings = SparsePostings.of(codes)
    assert postings.is_sound()
    rows = np.random.default_rng(seed).permutation(n)[: max(1, n // 2)]
    back = postings.forward(rows)
    for place, row in enumerate(rows.tolist()):
        assert back.to_bytes(place) == codes.to_bytes(row)


def test_a_merge_in_slices_is_the_postings_of_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexing.sparse_postings._ENTRIES_A_SLICE", 40)
    parts = [SparsePostings.of(CODES.take(np.arange(first, first + 100))) for first in (0, 100, 200)]
    rng = np.random.default_rng(8)
    taken = rng.permutation(300)[:170]
    write_sparse_postings(tmp_path, parts, taken // 100, taken % 100, lambda: None)
    found, whole = SparsePostings.load(tmp_path, 170), SparsePostings.of(CODES.take(taken))
    for name in ("vocabulary", "starts", "rows", "levels", "scales"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_search_is_the_dense_inner_product(snapshot: Snapshot) -> None:
    for query in QUERIES:
        scores = expected(query, CHUNKS, CODES)
        found = snapshot.sparse.search(query, 1000)
        assert set(found.chunk_ids.tolist()) == set(scores)
        np.testing.assert_allclose(found.scores, [scores[key] for key in found.chunk_ids.tolist()], rtol=1e-5)
        order = np.lexsort((found.chunk_ids, -found.scores))
        assert order.tolist() == list(range(len(found)))


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(0, len(QUERIES) - 1),
    limit=st.integers(0, 60),
    allowed=st.sets(st.sampled_from(np.unique(CHUNKS.document_ids).tolist())),
)
def test_a_filter_and_a_limit_only_remove(
    snapshot: Snapshot, number: int, limit: int, allowed: set[int]
) -> None:
    selection = snapshot.select(np.array(sorted(allowed), dtype=np.int64))
    everything = snapshot.sparse.search(QUERIES[number], 1000)
    pairs = zip(
        everything.chunk_ids.tolist(),
        everything.document_ids.tolist(),
        everything.scores.tolist(),
        strict=True,
    )
    kept = [(key, score) for key, document, score in pairs if document in allowed][:limit]
    found = snapshot.sparse.search(QUERIES[number], limit, selection)
    assert list(zip(found.chunk_ids.tolist(), found.scores.tolist(), strict=True)) == kept


def test_scores_and_contributions_agree_with_the_search(snapshot: Snapshot) -> None:
    for query in QUERIES:
        found = snapshot.sparse.search(query, 20)
        np.testing.assert_array_equal(snapshot.sparse.score(query, found.chunk_ids), found.scores)
        for key, score in zip(found.chunk_ids.tolist(), found.scores.tolist(), strict=True):
            added = snapshot.sparse.contributions(query, key)
            assert set(added) <= set(query.terms.tolist())
            assert sum(added.values()) == pytest.approx(score, rel=1e-5)
    with pytest.raises(KeyError):
        snapshot.sparse.score(QUERIES[0], np.array([17], dtype=np.int64))


def test_scores_do_not_depend_on_how_the_index_came_about(snapshot: Snapshot, tmp_path: Path) -> None:
    other = build(tmp_path / "v", *(slice(first, first + 25) for first in range(0, 300, 25)))
    for query in QUERIES:
        one, another = snapshot.sparse.search(query, 50), other.sparse.search(query, 50)
        np.testing.assert_array_equal(one.chunk_ids, another.chunk_ids)
        np.testing.assert_array_equal(one.scores, another.scores)


def test_deleted_rows_are_found_no_more_and_a_purge_takes_them_out(tmp_path: Path) -> None:
    build(tmp_path / "v", slice(0, 300))
    gone = np.unique(CHUNKS.document_ids)[::2]
    with VersionWriter(tmp_path / "v") as writer, writer.commit(change=2) as commit:
        commit.replace_documents(gone)
    left = np.flatnonzero(~np.isin(CHUNKS.document_ids, gone))
    _assert_holds(tmp_path / "v", left)
    assert merge_version(tmp_path / "v", purge=True)
    _assert_holds(tmp_path / "v", left)
    with Snapshot.open(tmp_path / "v") as snapshot:
        assert sum(len(segment) for segment in snapshot.segments.segments) == len(left)


def _assert_holds(directory: Path, rows: Ids) -> None:
    assert verify_version(directory) == []
    with Snapshot.open(directory) as snapshot:
        for query in QUERIES:
            wanted = expected(query, CHUNKS.rows(rows), CODES.take(rows))
            assert set(snapshot.sparse.search(query, 1000).chunk_ids.tolist()) == set(wanted)


def test_a_version_without_sparse_vectors_works_and_says_so(tmp_path: Path) -> None:
    with build_index(tmp_path / "v", CHUNKS) as plain:
        assert len(plain.lexical.search("river", 5)) == 5
        with pytest.raises(IndexMissing, match="FOOTNOTE_SPARSE_MODEL"):
            _ = plain.sparse
        assert not list((tmp_path / "v").rglob(FILE))


@pytest.mark.parametrize("given", [None, CODES.take(np.arange(3))], ids=["none", "too few"])
def test_chunks_without_their_sparse_vectors_are_refused(tmp_path: Path, given: SparseCodes | None) -> None:
    create_version(tmp_path / "v", SPEC)
    with VersionWriter(tmp_path / "v") as writer, pytest.raises(ValueError, match="Sparse vectors"):
        _commit(writer, given)


def test_sparse_vectors_are_refused_by_a_version_without(tmp_path: Path) -> None:
    create_version(tmp_path / "v", small_spec())
    with VersionWriter(tmp_path / "v") as writer, pytest.raises(ValueError, match="Sparse vectors"):
        _commit(writer, CODES)


def _commit(writer: VersionWriter, sparse: SparseCodes | None) -> None:
    with writer.commit(change=1) as commit:
        commit.add(**CHUNKS.columns(), sparse=sparse)


def test_postings_of_other_rows_are_damage(tmp_path: Path) -> None:
    write_sparse_postings(
        tmp_path, [SparsePostings.of(CODES)], np.zeros(300, np.int64), np.arange(300), lambda: None
    )
    with pytest.raises(IndexDamaged, match="other rows than 299"):
        SparsePostings.load(tmp_path, 299)


@pytest.mark.parametrize("column", ["vocabulary", "starts", "rows", "levels", "scales"])
def test_columns_that_do_not_go_together_are_noticed(tmp_path: Path, column: str) -> None:
    write_sparse_postings(
        tmp_path, [SparsePostings.of(CODES)], np.zeros(300, np.int64), np.arange(300), lambda: None
    )
    columns = {name: values.copy() for name, values in read_columns(tmp_path / FILE).items()}
    wrong = columns[column]
    wrong[:2] = {"starts": [3, 1], "levels": [0, 0], "scales": [np.nan, 1]}.get(column, wrong[1::-1].copy())
    write_columns(tmp_path / FILE, columns)
    assert not SparsePostings.load(tmp_path, 300).is_sound()
