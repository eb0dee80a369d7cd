"""Set operations against the formula, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexing.snapshot import Snapshot
from retrievers import similar as module
from retrievers.similar import Operands, similar, similarities, stored_vectors
from tests.small_index import build_index, made_up_chunks, unit_vectors

CHUNKS = made_up_chunks(400, seed=41)
MEMBERS = unit_vectors(30, CHUNKS.vectors.shape[1], np.random.default_rng(42))
SETS = st.lists(st.lists(st.integers(0, len(MEMBERS) - 1), min_size=1, max_size=4), max_size=3)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    parts = [CHUNKS.rows(slice(0, 150)), CHUNKS.rows(slice(150, 400))]
    with build_index(tmp_path_factory.mktemp("similar") / "v", *parts) as opened:
        yield opened


def naive(
    operands: Operands, allowed: set[int] | None, left_out: set[int], left_out_documents: set[int]
) -> list[tuple[int, int, float]]:
    """(chunk, document, score) of every chunk that may be a result, best first."""
    found = []
    for key, document, vector in zip(
        CHUNKS.chunk_ids.tolist(), CHUNKS.document_ids.tolist(), CHUNKS.vectors, strict=True
    ):
        if (allowed is None or document in allowed) and key not in left_out:
            stored = vector.astype(np.float16).astype(np.float64)
            score = sum(np.mean([stored @ member for member in group]) for group in operands.like)
            score -= sum(np.mean([stored @ member for member in group]) for group in operands.unlike)
            if document not in left_out_documents:
                found.append((key, document, float(score)))
    return sorted(found, key=lambda item: (-item[2], item[0]))


def sets_of(groups: list[list[int]]) -> tuple[np.ndarray, ...]:
    return tuple(MEMBERS[group] for group in groups)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    like=SETS,
    unlike=SETS,
    top_k=st.integers(1, 450),
    allowed=st.none() | st.sets(st.integers(0, 90)),
    by_document=st.booleans(),
    data=st.data(),
)
def test_the_order_is_that_of_the_formula(
    snapshot: Snapshot,
    like: list[list[int]],
    unlike: list[list[int]],
    top_k: int,
    allowed: set[int] | None,
    by_document: bool,
    data: st.DataObject,
) -> None:
    if not like and not unlike:
        like = [[0]]
    left_out = data.draw(st.sets(st.sampled_from(CHUNKS.chunk_ids.tolist()), max_size=5))
    left_out_documents = data.draw(st.sets(st.sampled_from(CHUNKS.document_ids.tolist()), max_size=3))
    allowed = None if allowed is None else {41_000 + document for document in allowed}
    operands = Operands(like=sets_of(like), unlike=sets_of(unlike))
    expected = naive(operands, allowed, left_out, left_out_documents)
    if by_document:
        first = {document: item for item in reversed(expected) for document in [item[1]]}
        expected = sorted(first.values(), key=lambda item: (-item[2], item[0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_A_BLOCK", 64)
        found = similar(
            snapshot,
            operands,
            top_k,
            allowed_documents=None if allowed is None else np.array(sorted(allowed), dtype=np.int64),
            without_chunks=sorted(left_out),
            without_documents=sorted(left_out_documents),
            by_document=by_document,
        )
    expected = expected[:top_k]
    np.testing.assert_allclose(found.scores, [score for *_, score in expected], atol=1e-5)
    scores = {key: score for key, _, score in naive(operands, allowed, left_out, left_out_documents)}
    for key, (_, _, score) in zip(found.chunk_ids.tolist(), expected, strict=True):
        assert scores[key] == pytest.approx(score, abs=1e-5)
    assert set(found.document_ids.tolist()) <= (allowed or set(CHUNKS.document_ids.tolist()))
    parts = similarities(snapshot, operands, found.chunk_ids)
    np.testing.assert_allclose(sum(parts.values()), found.scores, atol=1e-5)


def test_what_is_taken_away_is_not_what_is_added(snapshot: Snapshot) -> None:
    member = CHUNKS.vectors[7]
    near = similar(snapshot, Operands(like=(member[None],)), 400)
    far = similar(snapshot, Operands(unlike=(member[None],)), 400)
    assert near.chunk_ids[0] == CHUNKS.chunk_ids[7]
    np.testing.assert_allclose(near.scores, -far.scores[::-1], atol=1e-6)


def test_stored_vectors_are_those_of_the_chunks(snapshot: Snapshot) -> None:
    ids = CHUNKS.chunk_ids[[300, 2, 155]]
    np.testing.assert_allclose(stored_vectors(snapshot, ids), CHUNKS.vectors[[300, 2, 155]], atol=2e-3)


def test_an_empty_set_is_refused() -> None:
    for groups in ({}, {"like": (MEMBERS[:0],)}, {"like": (MEMBERS[:1],), "unlike": (MEMBERS[:0],)}):
        with pytest.raises(ValueError, match="at least one"):
            Operands(**groups)
