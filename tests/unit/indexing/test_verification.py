"""Verification finds any damage, and what is damaged is refused where it is opened or searched."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexing.errors import IndexDamaged
from indexing.files import records_of
from indexing.manifest import Manifest, SegmentRecord, load_manifest, save_manifest
from indexing.segments import SegmentRows, write_segment
from indexing.snapshot import Snapshot
from indexing.terms import TermTable
from indexing.vectors import RABITQ_MIN_ROWS
from indexing.verification import verify_version
from indexing.version import VersionWriter
from tests.small_index import FIRST, build_index, commit_chunks, made_up_chunks

KINDS = ["rows.col", "terms.col", "postings.col", "vectors.faiss", "codes.faiss"]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version with every kind of file: a segment with codes and with dead rows."""
    directory = tmp_path_factory.mktemp("pristine") / "v"
    chunks = made_up_chunks(RABITQ_MIN_ROWS, seed=3, dim=8, max_words=3)
    build_index(directory, chunks)
    with VersionWriter(directory) as writer, writer.commit(change=2) as commit:
        commit.replace_documents(chunks.document_ids[:3])
    assert verify_version(directory) == []
    return directory


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    """The version in a directory of its own; a test that changes a file writes another in its place."""
    copy = tmp_path / "v"
    for path in pristine.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(pristine)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
    return copy


def file_of(directory: Path, kind: str) -> Path:
    (path,) = directory.glob("segment-*.dead-*" if kind == "dead" else f"segment-*/{kind}")
    return path


def rewrite(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def search_everything(directory: Path) -> None:
    with Snapshot.open(directory) as snapshot:
        for limit in (5, 4000):
            snapshot.lexical.search("river stone night", limit)
            snapshot.vectors.search(np.ones(8, dtype=np.float32), limit)
            allowed = snapshot.select(np.arange(3000, 3400))
            snapshot.vectors.search(np.ones(8, dtype=np.float32), limit, allowed)


@pytest.mark.parametrize("kind", [*KINDS, "dead"])
@pytest.mark.parametrize("how", ["removed", "cut", "flipped"])
def test_verification_finds_a_damaged_file(directory: Path, kind: str, how: str) -> None:
    path = file_of(directory, kind)
    data = bytearray(path.read_bytes())
    if how == "removed":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0xFF
        rewrite(path, data if how == "flipped" else data[:-1])

    (problem,) = verify_version(directory)

    assert problem.path == path.relative_to(directory).as_posix()
    assert problem.kind == {"removed": "missing", "cut": "size", "flipped": "checksum"}[how]
    if how != "flipped":
        with pytest.raises(IndexDamaged):
            Snapshot.open(directory)


@pytest.mark.parametrize("kind", [*KINDS, "dead"])
def test_a_flipped_byte_at_an_edge_is_found_at_opening(directory: Path, kind: str) -> None:
    path = file_of(directory, kind)
    data = path.read_bytes()
    for place in (0, 5, 20, 60, 75, 200, len(data) - 1):
        rewrite(path, data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        with pytest.raises(IndexDamaged):
            Snapshot.open(directory)


@pytest.mark.parametrize("kind", [*KINDS, "dead"])
def test_a_damaged_file_is_refused_or_searched_never_a_crash(directory: Path, kind: str) -> None:
    path = file_of(directory, kind)
    data = path.read_bytes()
    rng = np.random.default_rng(len(data))
    for _ in range(6):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 200):
            damaged[place] ^= 0xFF
        rewrite(path, damaged)
        with suppress(IndexDamaged):
            search_everything(directory)
        assert [problem.kind for problem in verify_version(directory)] == ["checksum"]


def test_verification_finds_counts_that_do_not_agree(directory: Path) -> None:
    manifest = load_manifest(directory)
    (segment,) = manifest.segments
    save_manifest(directory, replace(manifest, n_chunks=1, n_documents=1))
    assert [problem.kind for problem in verify_version(directory)] == ["count", "count"]
    save_manifest(directory, replace(manifest, segments=(replace(segment, n_tokens=1),)))
    assert [problem.kind for problem in verify_version(directory)] == ["count"]
    save_manifest(directory, replace(manifest, segments=(replace(segment, n_dead=1),)))
    assert [problem.kind for problem in verify_version(directory)] == ["unreadable"]


def test_verification_finds_a_chunk_that_is_live_twice(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, FIRST, made_up_chunks(1500, seed=1, max_words=6))
    manifest = load_manifest(directory)
    twice = SegmentRows(
        chunk_ids=FIRST.chunk_ids[:1],
        document_ids=FIRST.document_ids[:1],
        vectors=FIRST.vectors[:1].astype(np.float16),
        terms=one_row(),
    )
    record = with_segment(directory, manifest, twice)
    manifest = replace(manifest, n_chunks=manifest.n_chunks + 1, segments=(*manifest.segments, record))
    save_manifest(directory, manifest)
    assert [problem.kind for problem in verify_version(directory)] == ["ids"]


def one_row() -> TermTable:
    return TermTable(
        vocabulary=np.array([7], dtype=np.uint64),
        starts=np.array([0, 1]),
        ordinals=np.array([0], dtype=np.uint32),
        counts=np.array([1], dtype=np.uint8),
        lengths=np.array([1], dtype=np.uint32),
    )


def with_segment(directory: Path, manifest: Manifest, rows: SegmentRows) -> SegmentRecord:
    name = f"segment-{manifest.next_segment:08d}"
    (directory / name).mkdir()
    written = write_segment(directory / name, [(rows, np.arange(len(rows)))])
    return SegmentRecord(
        name=name,
        n_rows=len(rows),
        n_tokens=written.n_tokens,
        kind=written.kind,
        files=records_of(directory / name, name),
    )


@pytest.mark.parametrize(
    ("file", "kind"),
    [("postings.col", "postings"), ("terms.col", "postings"), ("rows.col", "columns")],
)
def test_verification_finds_columns_that_do_not_go_together(tmp_path: Path, file: str, kind: str) -> None:
    """Files that are as they were written, but not written for each other."""
    directory, other = tmp_path / "v", tmp_path / "other"
    name = build_index(directory, FIRST).manifest.segments[0].name
    theirs = made_up_chunks(len(FIRST), seed=5, max_words=6)
    if file == "rows.col":
        theirs = FIRST
    commit_chunks_in(other, theirs, name)
    path = other / name / file
    data = path.read_bytes()
    if file == "rows.col":  # the last column is the order by document
        middle = len(data) - 4 * len(FIRST)
        data = data[:middle] + data[middle + 4 : middle + 8] + data[middle : middle + 4] + data[middle + 8 :]
    (directory / name / file).write_bytes(data)
    manifest = load_manifest(directory)
    record = replace(manifest.segments[0], files=records_of(directory / name, name))
    save_manifest(directory, replace(manifest, segments=(record,)))

    found = verify_version(directory)

    assert kind in {problem.kind for problem in found}
    assert {problem.path for problem in found} <= {name, "manifest.json"}


def commit_chunks_in(directory: Path, chunks: object, name: str) -> None:
    assert build_index(directory, chunks).manifest.segments[0].name == name  # type: ignore[arg-type]


def test_a_version_that_was_extended_is_sound(tmp_path: Path) -> None:
    build_index(tmp_path / "v", FIRST)
    commit_chunks(tmp_path / "v", made_up_chunks(40, seed=2), change=2)
    assert verify_version(tmp_path / "v") == []
