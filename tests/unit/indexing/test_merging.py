"""Background merges: what they leave, what they let happen meanwhile, and what they drop."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from threading import Event, Thread

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from indexing import version
from indexing.locks import MergeLock
from indexing.manifest import SegmentRecord, load_manifest
from indexing.merge_plans import (
    FULL_ROWS,
    MAX_DEAD_SHARE,
    MAX_SEGMENT_ROWS,
    SEALED_ROWS,
    TINY_ROWS,
    plan_commit,
    plan_merges,
)
from indexing.merging import merge_due, merge_version
from indexing.snapshot import Snapshot
from indexing.verification import verify_version
from indexing.version import VersionWriter
from tests.small_index import FIRST, SmallChunks, build_index, commit_chunks, made_up_chunks

SIZE = SEALED_ROWS
CHUNKS = made_up_chunks(3 * SIZE, seed=21, max_words=3)
HALVES = [CHUNKS.rows(slice(0, SIZE)), CHUNKS.rows(slice(SIZE, 2 * SIZE))]
"""Two sealed segments: to be merged."""
BOTH = CHUNKS.rows(slice(0, 2 * SIZE))
WORD = "purgeable"


def results(snapshot: Snapshot) -> list[object]:
    found = [snapshot.lexical.search(text, 50) for text in ("river", "stone copper salt")]
    found += [snapshot.vectors.search(vector, 50) for vector in CHUNKS.vectors[:2]]
    return [(part.chunk_ids.tolist(), part.scores.tolist()) for part in found]


def remove(directory: Path, document_ids: np.ndarray, change: int) -> None:
    with VersionWriter(directory) as writer, writer.commit(change=change) as commit:
        commit.replace_documents(document_ids)


def assert_holds(directory: Path, chunks: SmallChunks) -> None:
    snapshot = Snapshot.open(directory)
    assert snapshot.chunk_ids().tolist() == sorted(chunks.chunk_ids.tolist())
    assert snapshot.manifest.n_documents == len(np.unique(chunks.document_ids))
    assert verify_version(directory) == []


def test_similar_segments_become_one(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    before = build_index(directory, *HALVES)
    assert len(before.manifest.segments) == 2
    assert merge_due(before.manifest)

    assert merge_version(directory)

    after = Snapshot.open(directory)
    assert [segment.n_rows for segment in after.manifest.segments] == [2 * SIZE]
    assert after.manifest.change == before.manifest.change
    assert results(after) == results(before)
    assert_holds(directory, BOTH)
    assert not merge_due(after.manifest)
    assert not merge_version(directory)


def test_a_segment_with_many_dead_rows_is_written_anew(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, FIRST)
    documents = np.unique(FIRST.document_ids)
    few, many = documents[: len(documents) // 8], documents[: len(documents) // 3]
    remove(directory, few, 2)
    assert not merge_version(directory)
    remove(directory, many, 3)
    assert merge_version(directory)
    (segment,) = load_manifest(directory).segments
    assert segment.n_dead == 0
    assert_holds(directory, FIRST.rows(~np.isin(FIRST.document_ids, many)))


def test_commits_go_on_while_a_merge_reads(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, *HALVES)
    gone = np.unique(BOTH.document_ids)[:40]
    late = made_up_chunks(30, seed=90)
    begun, go_on = Event(), Event()
    asked = count(1)

    def stop() -> bool:
        if next(asked) == 2:  # the sources are open
            begun.set()
            assert go_on.wait(30)
        return False

    thread = Thread(target=merge_version, args=(directory,), kwargs={"stop": stop})
    thread.start()
    assert begun.wait(30)
    remove(directory, gone, 3)
    commit_chunks(directory, late, change=4)
    before = results(Snapshot.open(directory))
    go_on.set()
    thread.join(60)

    segments = load_manifest(directory).segments
    assert sorted(segment.n_rows for segment in segments) == [30, 2 * SIZE]
    assert sum(segment.n_dead for segment in segments) == np.isin(BOTH.document_ids, gone).sum()
    assert results(Snapshot.open(directory)) == before
    assert load_manifest(directory).change == 4
    kept = BOTH.rows(~np.isin(BOTH.document_ids, gone))
    assert load_manifest(directory).n_chunks == len(kept) + len(late)
    assert verify_version(directory) == []


def test_a_merge_whose_segment_is_gone_is_dropped(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    chunks = CHUNKS.rows(slice(0, 2 * SIZE))
    chunks.document_ids[:] = np.repeat([1, 2], SIZE)
    build_index(directory, chunks.rows(slice(0, SIZE)), chunks.rows(slice(SIZE, 2 * SIZE)))
    n_asked = 0

    def stop() -> bool:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 2:  # the sources are open
            remove(directory, np.array([1]), 3)
        return False

    assert not merge_version(directory, stop=stop)
    assert n_asked > 2
    assert_holds(directory, chunks.rows(slice(SIZE, 2 * SIZE)))


def test_a_stopped_merge_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    before = build_index(directory, *HALVES).manifest
    asked = iter([False, False, True])
    assert not merge_version(directory, stop=lambda: next(asked))
    assert load_manifest(directory) == before
    assert not (directory / version.MERGE_NAME).exists()


def test_two_merges_take_turns(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, *HALVES)
    lock = MergeLock(directory)
    lock.acquire()
    asked = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 1

    try:
        assert not merge_version(directory, stop=stop)
    finally:
        lock.release()
    assert len(asked) == 2
    assert merge_version(directory)


def test_a_writer_leaves_the_work_of_a_merge_alone_and_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, FIRST)
    working = directory / version.MERGE_NAME
    working.mkdir()
    lock = MergeLock(directory)
    lock.acquire()
    with VersionWriter(directory):
        pass
    assert working.exists()
    lock.release()
    with VersionWriter(directory):
        pass
    assert not working.exists()


def test_a_purge_leaves_no_byte(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    chunks = made_up_chunks(3000, seed=23)
    chunks.vectors[7] = np.linspace(-1, 1, chunks.vectors.shape[1])
    secrets = [
        chunks.vectors[7].astype(np.float16).tobytes(),
        int(chunks.chunk_ids[7]).to_bytes(8, "little"),
    ]
    build_index(directory, chunks, made_up_chunks(40, seed=24))
    assert all(found(directory, secret) for secret in secrets)
    remove(directory, chunks.document_ids[7:8], 3)
    assert not merge_version(directory)
    assert all(found(directory, secret) for secret in secrets)

    assert merge_version(directory, purge=True)

    assert not any(found(directory, secret) for secret in secrets)
    manifest = load_manifest(directory)
    assert manifest.retired == ()
    assert {path.name for path in directory.iterdir() if not path.name.startswith(".")} == {
        "manifest.json",
        *manifest.names,
    }
    assert verify_version(directory) == []
    assert not merge_version(directory, purge=True)


def test_a_purge_removes_what_earlier_merges_left_for_readers(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, *HALVES)
    assert merge_version(directory)
    assert load_manifest(directory).retired
    assert merge_version(directory, purge=True)
    assert load_manifest(directory).retired == ()
    assert len(list(directory.glob("segment-*"))) == 1


def test_what_dies_during_a_purge_is_left_to_the_next(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, FIRST)
    documents = np.unique(FIRST.document_ids)
    remove(directory, documents[:1], 2)
    numbers = iter(range(1, len(documents)))

    def stop() -> bool:
        number = next(numbers)
        remove(directory, documents[number : number + 1], 2 + number)
        return False

    assert merge_version(directory, purge=True, stop=stop)
    (segment,) = load_manifest(directory).segments
    assert segment.n_dead > 0
    n_gone = next(numbers)
    assert_holds(directory, FIRST.rows(~np.isin(FIRST.document_ids, documents[:n_gone])))
    assert merge_version(directory, purge=True)
    assert load_manifest(directory).segments[0].n_dead == 0


def found(directory: Path, secret: bytes) -> bool:
    return any(secret in path.read_bytes() for path in directory.rglob("*") if path.is_file())


def record(n_rows: int, n_dead: int = 0) -> SegmentRecord:
    return SegmentRecord(name="s", n_rows=n_rows, n_tokens=0, kind="flat", files=(), n_dead=n_dead)


SEGMENTS = st.lists(
    st.integers(1, MAX_SEGMENT_ROWS).flatmap(
        lambda n_rows: st.builds(record, st.just(n_rows), st.integers(0, n_rows))
    ),
    max_size=30,
)


@given(segments=SEGMENTS)
def test_plans_come_to_an_end(segments: list[SegmentRecord]) -> None:
    """Carried out again and again, a plan leaves sealed segments that each are twice the next."""
    for _ in range(100):
        groups = plan_merges(segments)
        assert len({number for group in groups for number in group}) == sum(map(len, groups))
        if not groups:
            break
        live = sum(segments[number].n_live for number in groups[0])
        assert live <= MAX_SEGMENT_ROWS
        segments = [segment for number, segment in enumerate(segments) if number not in groups[0]]
        segments += [record(live)] if live else []
    assert plan_merges(segments) == []
    sizes = sorted(s.n_live for s in segments if s.n_rows >= SEALED_ROWS and s.n_live < FULL_ROWS)
    assert all(2 * small <= large or small + large > MAX_SEGMENT_ROWS for small, large in pairwise(sizes))
    assert all(segment.n_dead <= MAX_DEAD_SHARE * segment.n_rows for segment in segments)


@given(segments=SEGMENTS)
def test_an_unclean_segment_is_always_planned(segments: list[SegmentRecord]) -> None:
    segments = [replace(segment, name=str(number)) for number, segment in enumerate(segments)]
    planned = {number for group in plan_merges(segments, {"0", "7"}) for number in group}
    assert planned >= {0, 7} & set(range(len(segments)))


@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=400))
def test_small_commits_rewrite_little_and_leave_few_segments(sizes: list[int]) -> None:
    segments: list[int] = []
    rewritten = 0
    for size in sizes:
        taken = plan_commit(segments, segments, size)
        together = size + sum(segments[number] for number in taken)
        rewritten = max(rewritten, together)
        segments = [rows for number, rows in enumerate(segments) if number not in taken] + [together]
    unsealed = [rows for rows in segments if rows < SEALED_ROWS]
    assert len(unsealed) <= np.log2(SEALED_ROWS / TINY_ROWS) + 3
    assert rewritten < 4 * SEALED_ROWS


def test_a_commit_of_deletions_alone_writes_no_segment() -> None:
    assert plan_commit([10, 20], [10, 20], 0) == []


def test_full_segments_are_left_alone() -> None:
    assert plan_merges([record(FULL_ROWS)] * 4) == []
    assert plan_merges([record(FULL_ROWS, FULL_ROWS // 2)]) == [[0]]


def test_no_merge_is_due_in_a_new_version(tmp_path: Path) -> None:
    build_index(tmp_path / "v", FIRST)
    assert not merge_due(load_manifest(tmp_path / "v"))
    assert not merge_version(tmp_path / "v")
