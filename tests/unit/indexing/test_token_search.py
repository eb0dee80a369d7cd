"""Search by late interaction over a whole index: as a loop over all chunks, through commits and merges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexing import segments
from indexing.merging import merge_version
from indexing.snapshot import Snapshot
from indexing.token_codec import codec_for
from indexing.token_codes import TokenCodes
from indexing.token_lists import FILE
from indexing.types import Floats, Ids
from indexing.verification import verify_version
from indexing.version import VersionWriter, create_version
from tests.small_index import DIM, SmallChunks, made_up_chunks, small_spec, unit_vectors

CODEC = codec_for("made-up", DIM)
TOPICS = unit_vectors(80, DIM, np.random.default_rng(0))
LISTED_ROWS = 2048
"""In place of the number at which a segment gets lists, which would make the loop over all chunks slow."""
MANY = made_up_chunks(LISTED_ROWS + 700, seed=1)
FEW = made_up_chunks(150, seed=2)


def near_topics(n: int, random: np.random.Generator) -> Floats:
    vectors = TOPICS[random.integers(len(TOPICS), size=n)] + 0.35 * unit_vectors(n, DIM, random)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def tokens_of(chunks: SmallChunks, seed: int) -> TokenCodes:
    random = np.random.default_rng(seed)
    sizes = random.integers(0, 9, len(chunks))
    return TokenCodes.of([CODEC.encode(near_topics(size, random)) for size in sizes], CODEC.width)


def add(directory: Path, chunks: SmallChunks, tokens: TokenCodes, change: int) -> None:
    with VersionWriter(directory) as writer, writer.commit(change=change) as commit:
        commit.add(
            chunk_ids=chunks.chunk_ids,
            document_ids=chunks.document_ids,
            texts=chunks.texts,
            vectors=chunks.vectors,
            tokens=tokens,
        )


def remove(directory: Path, document_ids: Ids, change: int) -> None:
    with VersionWriter(directory) as writer, writer.commit(change=change) as commit:
        commit.replace_documents(document_ids)


@pytest.fixture(scope="module", autouse=True)
def listed_early() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "MIN_ROWS", LISTED_ROWS)
        yield


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large segment with lists, of which some documents are gone, and a small one without."""
    made = tmp_path_factory.mktemp("tokens") / "version"
    spec = replace(small_spec(), settings={"token_codec": CODEC.name, "token_bytes": CODEC.width})
    create_version(made, spec)
    add(made, MANY, tokens_of(MANY, 1), 1)
    add(made, FEW, tokens_of(FEW, 2), 2)
    remove(made, np.unique(MANY.document_ids)[::7], 3)
    return made


@pytest.fixture(scope="module")
def snapshot(directory: Path) -> Snapshot:
    return Snapshot.open(directory)


def naive_scores(snapshot: Snapshot, vectors: Floats, weights: Floats) -> dict[int, float]:
    ids = snapshot.chunk_ids()
    scores = {}
    for chunk_id, tokens in zip(ids.tolist(), snapshot.token_vectors(ids), strict=True):
        best = (tokens @ vectors.T).max(axis=0) if len(tokens) else np.zeros(len(vectors))
        scores[chunk_id] = float(best @ weights)
    return scores


def queries(n: int) -> list[tuple[Floats, Floats]]:
    random = np.random.default_rng(9)
    return [(near_topics(6, random), random.random(6, dtype=np.float32)) for _ in range(n)]


def test_large_segments_have_lists_and_small_ones_none(snapshot: Snapshot) -> None:
    with_lists = {len(segment): segment.token_lists is not None for segment in snapshot.segments.segments}
    assert with_lists == {len(MANY): True, len(FEW): False}
    assert any(record.name.endswith(FILE) for record in snapshot.manifest.files)


def test_scores_are_those_of_a_loop_and_few_of_the_best_are_missed(snapshot: Snapshot) -> None:
    found_of_ten = []
    for vectors, weights in queries(20):
        expected = naive_scores(snapshot, vectors, weights)
        found = snapshot.search_tokens(vectors, weights, 10)
        for chunk_id, score in zip(found.chunk_ids.tolist(), found.scores.tolist(), strict=True):
            assert score == pytest.approx(expected[chunk_id], abs=0.01)
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        border = sorted(expected.values())[-10] - 0.01
        found_of_ten.append(sum(expected[chunk_id] >= border for chunk_id in found.chunk_ids.tolist()))
    assert np.mean(found_of_ten) > 9.5


def test_lists_say_which_rows_have_a_token_near_a_centroid(snapshot: Snapshot) -> None:
    segment = max(snapshot.segments.segments, key=len)
    lists, tokens = segment.token_lists, segment.tokens
    assert lists is not None
    assert tokens is not None
    nearest = (CODEC.decode(tokens.codes) @ lists.centroids.astype(np.float32).T).argmax(axis=1)
    for centroid in range(0, len(lists.centroids), 9):
        rows = lists.rows[lists.starts[centroid] : lists.starts[centroid + 1]].tolist()
        expected = {
            int(np.searchsorted(tokens.starts, place, side="right")) - 1
            for place in np.flatnonzero(nearest == centroid)
        }
        assert rows == sorted(rows)
        # Centroids are kept in sixteen bits, so that a token between two may be in either list.
        assert len(expected ^ set(rows)) <= 0.05 * len(expected) + 1


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_a_filter_holds_and_costs_no_hit(snapshot: Snapshot, share: float) -> None:
    documents = snapshot.documents()
    chosen = np.random.default_rng(4).choice(documents, max(1, int(share * len(documents))), replace=False)
    allowed = np.sort(chosen)
    selection = snapshot.select(allowed)
    for vectors, weights in queries(3):
        for limit in (5, 200):
            found = snapshot.search_tokens(vectors, weights, limit, selection)
            assert set(found.document_ids.tolist()) <= set(allowed.tolist())
            assert len(found) == min(limit, selection.n_rows)
        if selection.n_rows <= 512:
            expected = naive_scores(snapshot, vectors, weights)
            best = max(expected[chunk] for chunk in found.chunk_ids.tolist())
            assert found.scores[0] == pytest.approx(best, abs=0.01)


def test_all_there_are_come_where_more_are_wanted(snapshot: Snapshot) -> None:
    ((vectors, weights),) = queries(1)
    found = snapshot.search_tokens(vectors, weights, 10_000)
    assert sorted(found.chunk_ids.tolist()) == snapshot.chunk_ids().tolist()


def test_a_merge_makes_lists_anew_without_what_is_gone(directory: Path, snapshot: Snapshot) -> None:
    before = [snapshot.search_tokens(*query, 10).chunk_ids.tolist() for query in queries(5)]
    assert merge_version(directory, purge=True)
    with Snapshot.open(directory) as merged:
        segment = max(merged.segments.segments, key=len)
        assert segment.record.n_dead == 0
        assert segment.token_lists is not None
        after = [merged.search_tokens(*query, 10).chunk_ids.tolist() for query in queries(5)]
    assert verify_version(directory) == []
    shared = [len(set(one) & set(other)) for one, other in zip(before, after, strict=True)]
    assert np.mean(shared) > 9
