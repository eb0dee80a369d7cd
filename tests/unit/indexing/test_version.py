"""Commits: what a version holds after any sequence of them, and that a rebuild would give the same."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.errors import EncoderMismatch, IndexMissing
from indexing.manifest import load_manifest
from indexing.snapshot import Snapshot
from indexing.types import DocumentId
from indexing.verification import verify_version
from indexing.version import VersionWriter, create_version
from tests import oracles
from tests.small_index import (
    DIM,
    FIRST,
    SECOND,
    WORDS,
    SmallChunks,
    build_index,
    commit_chunks,
    made_up_chunks,
    small_spec,
)

QUERIES = ("river", "stone bridge paper", "copper harbour letter salt night")
POOL = made_up_chunks(120, seed=9, per_document=6)


def results(snapshot: Snapshot, chunks: SmallChunks) -> list[object]:
    """What searches of the snapshot give, to the last bit."""
    found = [snapshot.lexical.search(text, 50) for text in QUERIES]
    found += [snapshot.vectors.search(vector, 50) for vector in chunks.vectors[:3]]
    return [(part.chunk_ids.tolist(), part.document_ids.tolist(), part.scores.tolist()) for part in found]


def assert_holds(snapshot: Snapshot, chunks: SmallChunks) -> None:
    assert snapshot.chunk_ids().tolist() == sorted(chunks.chunk_ids.tolist())
    assert snapshot.documents().tolist() == np.unique(chunks.document_ids).tolist()
    assert snapshot.manifest.n_chunks == len(chunks)
    assert snapshot.manifest.n_documents == len(np.unique(chunks.document_ids))
    for document_id in np.unique(chunks.document_ids).tolist():
        expected = sorted(chunks.chunk_ids[chunks.document_ids == document_id].tolist())
        assert snapshot.document_chunks(DocumentId(document_id)).tolist() == expected
    assert verify_version(snapshot.directory) == []


def test_a_new_version_is_empty_and_sound(tmp_path: Path) -> None:
    create_version(tmp_path / "v", small_spec())
    snapshot = Snapshot.open(tmp_path / "v")
    assert snapshot.manifest.n_chunks == 0
    assert len(snapshot.lexical.search("river", 5)) == 0
    assert len(snapshot.vectors.search(FIRST.vectors[0], 5)) == 0
    assert len(snapshot.vectors.search(FIRST.vectors[0], 5, snapshot.select(np.array([1])))) == 0
    assert verify_version(tmp_path / "v") == []


def test_creating_again_keeps_what_is_there(tmp_path: Path) -> None:
    build_index(tmp_path / "v", FIRST)
    create_version(tmp_path / "v", small_spec())
    assert Snapshot.open(tmp_path / "v").manifest.n_chunks == len(FIRST)
    with pytest.raises(ValueError, match="another"):
        create_version(tmp_path / "v", small_spec(dim=3))


@settings(deadline=None, max_examples=12)
@given(
    steps=st.lists(
        st.tuples(
            st.sets(st.integers(0, 19), max_size=12),
            st.sets(st.integers(0, len(POOL) - 1), min_size=0, max_size=50),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_commits_leave_what_a_dictionary_would_hold(steps: list[tuple[set[int], set[int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "v"
        create_version(directory, small_spec())
        held: dict[int, int] = {}  # row of the pool by chunk id
        with VersionWriter(directory) as writer:
            for number, (documents, rows) in enumerate(steps, start=1):
                replaced = np.array(sorted(9000 + document for document in documents), dtype=np.int64)
                with writer.commit(change=number) as commit:
                    commit.replace_documents(replaced)
                    commit.add(**POOL.rows(sorted(rows)).columns())
                held = {i: row for i, row in held.items() if POOL.document_ids[row] not in replaced}
                held |= {int(POOL.chunk_ids[row]): row for row in rows}
        chunks = POOL.rows(sorted(held.values()))
        snapshot = Snapshot.open(directory)
        assert snapshot.manifest.change == len(steps)
        assert_holds(snapshot, chunks)
        for text in QUERIES if len(chunks) else ():
            scores = oracles.bm25(chunks, text)
            expected = oracles.ranked(chunks, scores)[: (scores > 0).sum()]
            assert snapshot.lexical.search(text, len(chunks)).chunk_ids.tolist() == expected
        if len(chunks):
            rebuilt = build_index(Path(folder) / "rebuilt", chunks)
            assert results(snapshot, POOL) == results(rebuilt, POOL)


def test_small_segments_are_taken_along_and_stay_few(tmp_path: Path) -> None:
    chunks = made_up_chunks(9000, seed=11, max_words=4)
    batches = [chunks.rows(slice(0, 5000)), *(chunks.rows(slice(a, a + 100)) for a in range(5000, 9000, 100))]
    snapshot = build_index(tmp_path / "v", *batches)

    sizes = [segment.n_rows for segment in snapshot.manifest.segments]
    assert sum(sizes) == 9000
    assert len(sizes) <= 4
    once = build_index(tmp_path / "once", chunks)
    assert len(once.manifest.segments) == 1
    assert results(once, chunks) == results(snapshot, chunks)


def test_rows_die_in_place(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    before = build_index(directory, FIRST).manifest.segments[0]
    documents = np.unique(FIRST.document_ids)
    with VersionWriter(directory) as writer, writer.commit(change=2) as commit:
        commit.replace_documents(documents[:100])
    gone = np.isin(FIRST.document_ids, documents[:100])
    (after,) = Snapshot.open(directory).manifest.segments
    assert (after.name, after.files, after.n_dead) == (before.name, before.files, int(gone.sum()))
    assert_holds(Snapshot.open(directory), FIRST.rows(~gone))


def test_a_segment_without_a_live_row_goes(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, FIRST)
    with VersionWriter(directory) as writer, writer.commit(change=2) as commit:
        commit.replace_documents(FIRST.document_ids)
    assert Snapshot.open(directory).manifest.segments == ()
    assert verify_version(directory) == []


def test_a_large_commit_is_written_in_segments_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexing.commit.FLUSH_ROWS", 900)
    monkeypatch.setattr("indexing.pending.BLOCK_ROWS", 200)
    chunks = made_up_chunks(2500, seed=12)
    directory = tmp_path / "v"
    create_version(directory, small_spec())
    with VersionWriter(directory) as writer, writer.commit(change=1) as commit:
        for start in range(0, 2500, 150):
            commit.add(**chunks.rows(slice(start, start + 150)).columns())
            # what was added before, pending or flushed, is not added again
            commit.add(**chunks.rows(slice(0, start + 10, 50)).columns())
    assert [segment.n_rows for segment in load_manifest(directory).segments] == [900, 900, 700]
    assert_holds(Snapshot.open(directory), chunks)


def test_a_failed_flush_fails_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexing.commit.FLUSH_ROWS", 900)
    directory = tmp_path / "v"
    create_version(directory, small_spec())
    (directory / "segment-00000001.new").touch()  # as if the name were taken

    def add_all() -> None:
        with VersionWriter(directory) as writer, writer.commit(change=1) as commit:
            (directory / "segment-00000001.new").mkdir()
            commit.add(**FIRST.columns())

    with pytest.raises(FileExistsError):
        add_all()
    assert Snapshot.open(directory).manifest.commit == 0
    assert [path.name for path in directory.iterdir() if path.name.startswith("segment")] == []


def test_opening_again_shares_what_is_unchanged_and_writes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    first = build_index(directory, FIRST, made_up_chunks(1200, seed=3))
    commit_chunks(directory, SECOND, change=3)
    entries = {path: path.stat().st_mtime_ns for path in [directory, *directory.rglob("*")]}

    again = Snapshot.open(directory, previous=first)

    assert {path: path.stat().st_mtime_ns for path in [directory, *directory.rglob("*")]} == entries
    before, after = first.segments.segments, again.segments.segments
    assert after[0].files is before[0].files  # it has dead rows now, in the same files
    assert after[0].live is not None
    assert after[1] is before[1]
    assert results(again, SECOND) == results(Snapshot.open(directory), SECOND)


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    before = build_index(tmp_path / "v", FIRST).manifest
    commit_chunks(tmp_path / "v", FIRST, change=7)
    after = Snapshot.open(tmp_path / "v").manifest
    assert after.segments == before.segments
    assert after.change == 7


def test_changed_content_under_the_same_id_is_replaced(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, FIRST)
    changed = SmallChunks(
        chunk_ids=FIRST.chunk_ids[:5],
        document_ids=FIRST.document_ids[:5],
        texts=["zebra"] * 5,
        vectors=FIRST.vectors[5:10],
    )
    with VersionWriter(directory) as writer, writer.commit(change=2) as commit:
        commit.add(**changed.columns())
    snapshot = Snapshot.open(directory)
    assert snapshot.lexical.search("zebra", 10).chunk_ids.tolist() == sorted(FIRST.chunk_ids[:5].tolist())
    assert snapshot.manifest.n_chunks == len(FIRST)
    assert verify_version(directory) == []


def test_an_older_change_number_does_not_go_back(tmp_path: Path) -> None:
    build_index(tmp_path / "v", FIRST)
    commit_chunks(tmp_path / "v", SECOND, change=5)
    before = Snapshot.open(tmp_path / "v").manifest
    commit_chunks(tmp_path / "v", SECOND, change=3)
    assert Snapshot.open(tmp_path / "v").manifest == before


def commit_and_fail(directory: Path) -> None:
    with VersionWriter(directory) as writer, writer.commit(change=2) as commit:
        commit.replace_documents(FIRST.document_ids)
        commit.add(**SECOND.columns())
        raise RuntimeError("midway")


def test_an_exception_leaves_the_version_as_it_was(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    before = build_index(directory, FIRST).manifest
    files = sorted(directory.rglob("*"))
    with pytest.raises(RuntimeError, match="midway"):
        commit_and_fail(directory)
    assert Snapshot.open(directory).manifest == before
    assert sorted(directory.rglob("*")) == files


def test_an_open_snapshot_is_not_changed_by_later_commits(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    snapshot = build_index(directory, FIRST)
    before = results(snapshot, FIRST)
    for number in range(2, 8):
        commit_chunks(directory, made_up_chunks(30, seed=number), change=number)
    with VersionWriter(directory) as writer, writer.commit(change=9) as commit:
        commit.replace_documents(FIRST.document_ids)
    assert results(snapshot, FIRST) == before
    assert len(list(directory.iterdir())) < 12  # what no reader of the last two commits needs is gone


def test_opening_while_a_writer_commits(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, FIRST)
    done = Event()

    def read() -> int:
        n_opened = 0
        while not done.is_set():
            with Snapshot.open(directory) as snapshot:
                assert snapshot.manifest.n_chunks == snapshot.segments.n_live
                n_opened += 1
        return n_opened

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        try:
            for number in range(2, 12):
                commit_chunks(directory, made_up_chunks(20, seed=number), change=number)
        finally:
            done.set()
        assert reading.result() > 0


@pytest.mark.parametrize(
    "change",
    [
        {"texts": ["one"]},
        {"document_ids": np.array([1])},
        {"vectors": np.ones((3, DIM + 1), dtype=np.float32)},
        {"vectors": np.full((3, DIM), np.nan, dtype=np.float32)},
    ],
    ids=["texts", "documents", "dimension", "nan"],
)
def test_columns_that_do_not_go_together_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    create_version(tmp_path / "v", small_spec())
    columns = {**FIRST.rows(slice(0, 3)).columns(), **change}
    with (
        VersionWriter(tmp_path / "v") as writer,
        writer.commit(change=1) as commit,
        pytest.raises(ValueError, match=r"go together|finite"),
    ):
        commit.add(**columns)
    assert Snapshot.open(tmp_path / "v").manifest.n_chunks == 0


def test_opening_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(IndexMissing):
        Snapshot.open(tmp_path / "none")
    with pytest.raises(IndexMissing):
        VersionWriter(tmp_path / "none")
    build_index(tmp_path / "v", FIRST)
    assert Snapshot.open(tmp_path / "v", expected_fingerprint="0123456789abcdef").manifest.n_chunks == len(
        FIRST
    )
    with pytest.raises(EncoderMismatch, match="footnote index build"):
        Snapshot.open(tmp_path / "v", expected_fingerprint="another")


def test_words_of_the_pool_are_indexed() -> None:
    assert all(any(word in text for text in POOL.texts) for word in WORDS)
