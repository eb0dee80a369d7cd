"""The codes of token vectors in index versions: what was committed is what a snapshot gives."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.errors import IndexDamaged, IndexMissing
from indexing.merging import merge_version
from indexing.snapshot import Snapshot
from indexing.token_codec import ROTATED, codec_named
from indexing.token_codes import FILE, Codes, SpilledCodes, TokenCodes, write_token_codes
from indexing.types import Ids
from indexing.verification import verify_version
from indexing.version import VersionSpec, VersionWriter, create_version
from tests.small_index import DIM, SmallChunks, build_index, made_up_chunks, small_spec

WIDTH = 4
POOL = made_up_chunks(120, seed=9, per_document=6)
RAGGED = st.lists(st.integers(0, 5), max_size=12)


def spec() -> VersionSpec:
    return replace(small_spec(), settings={"token_codec": ROTATED, "token_bytes": WIDTH})


def codes_of(chunk_id: int) -> Codes:
    """Codes that depend on the chunk alone; some chunks have no token."""
    random = np.random.default_rng(chunk_id)
    return random.integers(0, 256, (random.integers(0, 9), WIDTH), dtype=np.uint8)


def commit(
    writer: VersionWriter, change: int, chunks: SmallChunks, replaced: Ids | None = None, step: int = 10**6
) -> None:
    """Commits chunks with their codes, `step` of them at a time."""
    with writer.commit(change=change) as open_commit:
        if replaced is not None:
            open_commit.replace_documents(replaced)
        for start in range(0, len(chunks), step):
            part = chunks.rows(slice(start, start + step))
            tokens = TokenCodes.of([codes_of(i) for i in part.chunk_ids.tolist()], WIDTH)
            open_commit.add(**part.columns(), tokens=tokens)


def assert_codes(directory: Path, chunk_ids: Ids) -> None:
    """The version has the codes of exactly these chunks, whatever the order in which they are asked for."""
    with Snapshot.open(directory) as snapshot:
        assert snapshot.chunk_ids().tolist() == sorted(chunk_ids.tolist())
        asked = np.random.default_rng(1).permutation(chunk_ids)
        found = snapshot.token_codes(asked)
        vectors = snapshot.token_vectors(asked)
        for chunk_id, codes, decoded in zip(asked.tolist(), found, vectors, strict=True):
            np.testing.assert_array_equal(codes, codes_of(chunk_id))
            expected = codec_named(ROTATED, DIM).decode(codes_of(chunk_id))
            np.testing.assert_allclose(decoded, expected, atol=1e-6)
    assert verify_version(directory) == []


@settings(deadline=None, max_examples=10)
@given(
    steps=st.lists(
        st.tuples(
            st.sets(st.integers(0, 19), max_size=12), st.sets(st.integers(0, len(POOL) - 1), max_size=50)
        ),
        min_size=1,
        max_size=4,
    ),
    purge=st.booleans(),
)
def test_any_commits_and_merges_leave_the_codes_of_what_is_live(
    steps: list[tuple[set[int], set[int]]], purge: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "v"
        create_version(directory, spec())
        held: dict[int, int] = {}
        with VersionWriter(directory) as writer:
            for number, (documents, rows) in enumerate(steps, start=1):
                replaced = np.array(sorted(9000 + document for document in documents), dtype=np.int64)
                commit(writer, number, POOL.rows(sorted(rows)), replaced, step=7)
                held = {i: row for i, row in held.items() if POOL.document_ids[row] not in replaced}
                held |= {int(POOL.chunk_ids[row]): row for row in rows}
        live = np.array(sorted(held), dtype=np.int64)
        assert_codes(directory, live)
        merge_version(directory, purge=purge)
        assert_codes(directory, live)


def test_merged_and_purged_segments_keep_the_codes_and_nothing_of_the_dead(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    chunks = made_up_chunks(1600, seed=4, max_words=3)
    first, second = chunks.rows(slice(0, 1500)), chunks.rows(slice(1500, None))
    create_version(directory, spec())
    with VersionWriter(directory) as writer:
        commit(writer, 1, first)
        commit(writer, 2, second)
        gone = np.unique(chunks.document_ids)[:60]
        commit(writer, 3, chunks.rows([]), gone)
    live = chunks.chunk_ids[~np.isin(chunks.document_ids, gone)]
    assert_codes(directory, live)

    assert merge_version(directory, purge=True)
    assert_codes(directory, live)
    n_tokens = sum(len(codes_of(i)) for i in live.tolist())
    with Snapshot.open(directory) as snapshot:
        kept = [segment.tokens for segment in snapshot.segments.segments]
        assert sum(len(tokens.codes) for tokens in kept if tokens is not None) == n_tokens
    assert not [path.name for path in directory.iterdir() if path.name.endswith((".new", ".tmp"))]


def test_codes_must_be_given_where_they_are_kept_and_nowhere_else(tmp_path: Path) -> None:
    few = POOL.rows(slice(0, 3))
    tokens = TokenCodes.of([codes_of(i) for i in few.chunk_ids.tolist()], WIDTH)
    for name, made_with, given_tokens in (
        ("none given", spec(), None),
        ("none wanted", small_spec(), tokens),
        ("too few", spec(), tokens.take(np.arange(2))),
        ("too wide", spec(), TokenCodes.of([np.zeros((1, 5), np.uint8)] * 3, 5)),
    ):
        create_version(tmp_path / name, made_with)
        with (
            VersionWriter(tmp_path / name) as writer,
            pytest.raises(ValueError, match="do not suit"),
            writer.commit(change=1) as open_commit,
        ):
            open_commit.add(**few.columns(), tokens=given_tokens)


def test_a_version_without_codes_says_so(tmp_path: Path) -> None:
    few = POOL.rows(slice(0, 3))
    with pytest.raises(IndexMissing, match="without token vectors"):
        build_index(tmp_path / "v", few).token_vectors(few.chunk_ids)
    create_version(tmp_path / "empty", spec())
    snapshot = Snapshot.open(tmp_path / "empty")
    assert snapshot.token_vectors(np.empty(0, np.int64)) == []
    with pytest.raises(KeyError):
        snapshot.token_vectors(few.chunk_ids)


@pytest.mark.parametrize("damage", ["flipped", "removed"])
def test_damaged_codes_are_found(tmp_path: Path, damage: str) -> None:
    create_version(tmp_path / "v", spec())
    with VersionWriter(tmp_path / "v") as writer:
        commit(writer, 1, made_up_chunks(200, seed=4, max_words=3))
    (path,) = (tmp_path / "v").glob(f"segment-*/{FILE}")
    if damage == "flipped":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    (problem,) = verify_version(tmp_path / "v")
    assert problem.kind == ("checksum" if damage == "flipped" else "missing")
    assert problem.path.endswith(FILE)


@given(sizes=st.lists(RAGGED, min_size=1, max_size=3), width=st.integers(1, 9), data=st.data())
@settings(deadline=None)
def test_a_file_has_the_rows_of_its_sources_in_any_order(
    sizes: list[list[int]], width: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(0)
    chunks = [[random.integers(0, 256, (n, width), dtype=np.uint8) for n in part] for part in sizes]
    places = [(owner, row) for owner, part in enumerate(chunks) for row in range(len(part))]
    chosen = data.draw(st.permutations(places))[: data.draw(st.integers(0, len(places)))]
    owners, rows = np.array(chosen, dtype=np.int64).reshape(-1, 2).T
    with tempfile.TemporaryDirectory() as folder:
        sources = [TokenCodes.of(part, width) for part in chunks]
        write_token_codes(Path(folder), sources, owners, rows, lambda: None)
        read = TokenCodes.load(Path(folder), len(chosen), width)
        assert [read[row].tolist() for row in range(len(read))] == [
            chunks[owner][row].tolist() for owner, row in chosen
        ]
        with pytest.raises(IndexDamaged):
            TokenCodes.load(Path(folder), len(chosen) + 1, width)


@given(sizes=st.lists(RAGGED, min_size=1, max_size=4))
@settings(deadline=None)
def test_what_is_put_aside_comes_back(sizes: list[list[int]]) -> None:
    random = np.random.default_rng(0)
    chunks = [[random.integers(0, 256, (n, 3), dtype=np.uint8) for n in part] for part in sizes]
    with tempfile.TemporaryDirectory() as folder:
        spilled = SpilledCodes(Path(folder), 3)
        for part in chunks:
            spilled.add(TokenCodes.of(part, 3))
        assert list(Path(folder).iterdir()) == []
        read = spilled.read()
        expected = TokenCodes.of([codes for part in chunks for codes in part], 3)
        np.testing.assert_array_equal(read.codes, expected.codes)
        np.testing.assert_array_equal(read.starts, expected.starts)
