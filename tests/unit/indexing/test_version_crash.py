"""A commit killed at any point leaves the state before it or after it, and can be run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from indexing.manifest import load_manifest
from indexing.merging import MERGE_CHECKPOINTS, merge_version
from indexing.snapshot import Snapshot
from indexing.verification import verify_version
from indexing.version import CHECKPOINTS, VersionWriter
from tests.small_index import FIRST, SECOND, build_index, commit_chunks

ROOT = Path(__file__).parents[3]
VISIBLE = CHECKPOINTS.index("manifest-renamed")


def results(snapshot: Snapshot) -> list[object]:
    found = [snapshot.lexical.search(text, 100) for text in ("river stone", "copper salt harbour")]
    found += [snapshot.vectors.search(vector, 100) for vector in SECOND.vectors[:2]]
    return [(part.chunk_ids.tolist(), part.scores.tolist()) for part in found]


def run(arguments: list[str], crash_at: str | None = None) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if crash_at:
        environment["FOOTNOTE_CRASH_AT"] = crash_at
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, timeout=60, check=False).returncode


def commit_second(directory: Path, crash_at: str | None) -> int:
    return run(["-m", "tests.small_index", str(directory)], crash_at)


@pytest.fixture(scope="module")
def before_and_after(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], list[object]]:
    directory = tmp_path_factory.mktemp("undisturbed") / "v"
    before = results(build_index(directory, FIRST))
    assert commit_second(directory, None) == 0
    return before, results(Snapshot.open(directory))


@pytest.mark.parametrize("point", CHECKPOINTS)
def test_a_killed_commit(
    tmp_path: Path, before_and_after: tuple[list[object], list[object]], point: str
) -> None:
    before, after = before_and_after
    directory = tmp_path / "v"
    build_index(directory, FIRST)

    assert commit_second(directory, point) == -signal.SIGKILL

    expected = after if CHECKPOINTS.index(point) >= VISIBLE else before
    assert results(Snapshot.open(directory)) == expected
    assert verify_version(directory) == []
    commit_chunks(directory, SECOND, change=2)
    assert results(Snapshot.open(directory)) == after
    assert verify_version(directory) == []
    assert not list(directory.glob("*.new"))


MERGE = """
import pathlib, sys
from indexing.merging import merge_version
from indexing.version import VersionWriter
from tests.small_index import FIRST

directory, asked = pathlib.Path(sys.argv[1]), []

def stop():
    asked.append(True)
    if len(asked) == 2:  # the merge has begun: more rows die
        with VersionWriter(directory) as writer, writer.commit(change=3) as commit:
            commit.replace_documents(FIRST.document_ids[20:40])
    return False

merge_version(directory, purge=True, stop=stop)
"""


def two_segments(directory: Path) -> None:
    """One of them with dead rows."""
    build_index(directory, FIRST)
    commit_chunks(directory, SECOND, change=2)


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    directory = tmp_path_factory.mktemp("merged") / "v"
    two_segments(directory)
    assert run(["-c", MERGE, str(directory)]) == 0
    return results(Snapshot.open(directory))


@pytest.mark.parametrize("point", MERGE_CHECKPOINTS)
def test_a_killed_merge(tmp_path: Path, merged: list[object], point: str) -> None:
    directory = tmp_path / "v"
    two_segments(directory)
    # The commit that comes between passes some of the points before the merge does.
    crash_at = f"{point}:2" if point in CHECKPOINTS else point

    assert run(["-c", MERGE, str(directory)], crash_at) == -signal.SIGKILL

    snapshot = Snapshot.open(directory)
    assert verify_version(directory) == []
    if snapshot.manifest.change == 3:  # else the commit between did not come to pass
        assert results(snapshot) == merged
    with VersionWriter(directory) as writer, writer.commit(change=3) as commit:
        commit.replace_documents(FIRST.document_ids[20:40])
    merge_version(directory, purge=True)
    assert results(Snapshot.open(directory)) == merged
    assert verify_version(directory) == []
    manifest = load_manifest(directory)
    assert not any(segment.n_dead for segment in manifest.segments)
    assert {path.name for path in directory.iterdir() if path.name[0] != "."} == {
        "manifest.json",
        *manifest.names,
    }


@pytest.mark.parametrize("point", ["manifest-written", "manifest-renamed"])
def test_a_killed_creation(tmp_path: Path, point: str) -> None:
    program = (
        "import sys, pathlib\n"
        "from indexing.version import create_version\n"
        "from tests.small_index import small_spec\n"
        "create_version(pathlib.Path(sys.argv[1]), small_spec())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "v")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FOOTNOTE_CRASH_AT": point}
    assert subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert build_index(tmp_path / "v", FIRST).manifest.n_chunks == len(FIRST)
    assert verify_version(tmp_path / "v") == []


def test_the_lock_keeps_a_second_writer_out_and_dies_with_its_process(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, FIRST)
    program = (
        "import sys, pathlib, time; from indexing.version import VersionWriter\n"
        "with VersionWriter(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TimeoutError), VersionWriter(directory, timeout_seconds=0.1):
            pass
        holder.kill()
    with VersionWriter(directory, timeout_seconds=5):
        pass


def test_the_lock_keeps_another_writer_of_the_same_process_out(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    build_index(directory, FIRST)
    with VersionWriter(directory):
        with pytest.raises(TimeoutError), VersionWriter(directory, timeout_seconds=0.05):
            pass
        # the attempt must not have released the first writer's lock
        with pytest.raises(TimeoutError), VersionWriter(directory, timeout_seconds=0.05):
            pass
    with VersionWriter(directory, timeout_seconds=0.05):
        pass
