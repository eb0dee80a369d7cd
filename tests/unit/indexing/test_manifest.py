"""The manifest file, and a version on disk from an earlier day."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from indexing.errors import IndexDamaged, IndexMissing
from indexing.files import FileRecord, replace_file
from indexing.manifest import Manifest, Retired, SegmentRecord, load_manifest, save_manifest
from indexing.snapshot import Snapshot
from indexing.verification import verify_version
from tests.small_index import small_spec

GOLDEN = Path(__file__).parents[2] / "golden"
FILE = FileRecord(name="segment-00000001/rows.col", size=3, sha256="0" * 64, edges=5)
DEAD = FileRecord(name="segment-00000001.dead-00000004", size=9, sha256="1" * 64, edges=7)
MANIFEST = Manifest(
    spec=small_spec(),
    created_at="2026-01-01T00:00:00+00:00",
    commit=4,
    change=17,
    n_documents=2,
    n_chunks=3,
    segments=(
        SegmentRecord(
            name="segment-00000001", n_rows=4, n_tokens=20, kind="flat", files=(FILE,), n_dead=1, dead=DEAD
        ),
        SegmentRecord(name="segment-00000002", n_rows=1, n_tokens=2, kind="flat", files=()),
    ),
    retired=(Retired(name="segment-00000000", commit=4),),
    next_segment=2,
)


@pytest.mark.parametrize(
    "manifest", [MANIFEST, Manifest(spec=small_spec(), created_at="")], ids=["full", "new"]
)
def test_saved_then_loaded_is_the_same(tmp_path: Path, manifest: Manifest) -> None:
    save_manifest(tmp_path, manifest)
    assert load_manifest(tmp_path) == manifest


def test_sizes_and_names() -> None:
    assert MANIFEST.names == {"segment-00000001", "segment-00000001.dead-00000004"}
    assert MANIFEST.size_bytes == 12
    assert MANIFEST.n_rows == 5
    assert MANIFEST.segments[0].n_live == 3


def test_no_manifest_is_a_missing_version(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(IndexMissing):
            load_manifest(directory)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"format": 1}', "\udcff"])
def test_an_unreadable_manifest_is_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(IndexDamaged):
        load_manifest(tmp_path)
    assert [problem.kind for problem in verify_version(tmp_path)] == ["manifest"]


def test_any_flipped_byte_of_a_manifest_is_found(tmp_path: Path) -> None:
    save_manifest(tmp_path, MANIFEST)
    path = tmp_path / "manifest.json"
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x01]) + data[place + 1 :])
        # white space in another shape says the same
        if load_or_none(tmp_path) is not None:
            assert json.loads(path.read_bytes()) == json.loads(data)


def load_or_none(directory: Path) -> Manifest | None:
    try:
        return load_manifest(directory)
    except IndexDamaged:
        return None


def test_an_unknown_format_names_the_way_out(tmp_path: Path) -> None:
    save_manifest(tmp_path, MANIFEST)
    fields = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**fields, "format": 99}))
    with pytest.raises(IndexDamaged, match=r"format 99.*footnote index repair"):
        load_manifest(tmp_path)


def test_a_version_of_format_1_is_refused_with_the_way_out(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    shutil.copytree(GOLDEN / "index_format_1", directory)
    with pytest.raises(IndexDamaged, match=r"format 1; .* format 2.*footnote index repair"):
        Snapshot.open(directory)
    assert [problem.kind for problem in verify_version(directory)] == ["manifest"]


def test_a_version_of_format_2_still_opens() -> None:
    directory = GOLDEN / "index_format_2"
    snapshot = Snapshot.open(directory)
    assert snapshot.lexical.search("harbour bridges", 3).chunk_ids.tolist() == [12, 11]
    nearest = snapshot.vectors.search(np.array([0, 1, 0, 0.5], dtype=np.float32), 3)
    assert nearest.chunk_ids.tolist() == [12, 11, 21]
    assert snapshot.documents().tolist() == [1, 2]
    assert [segment.n_dead for segment in snapshot.manifest.segments] == [1]
    assert verify_version(directory) == []


def test_a_replaced_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("crash_at", ["b", "a:2", "a:9", ""])
def test_a_checkpoint_kills_at_the_passing_asked_for(crash_at: str) -> None:
    program = (
        "from indexing.files import checkpoint\n"
        "for name in 'aba': print(name, flush=True); checkpoint(name)\n"
    )
    environment = {**os.environ, "FOOTNOTE_CRASH_AT": crash_at}
    command = [sys.executable, "-c", program]
    run = subprocess.run(
        command, env=environment, capture_output=True, cwd=Path(__file__).parents[3], check=False
    )
    expected = {"b": 2, "a:2": 3, "a:9": 3, "": 3}[crash_at]
    assert len(run.stdout.split()) == expected
    assert (run.returncode < 0) == (crash_at in {"b", "a:2"})
