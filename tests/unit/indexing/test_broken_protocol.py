"""The faults that a harness plants are faults: only a kill in the middle shows them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from indexing.verification import verify_version
from tests.small_index import FIRST, build_index

ROOT = Path(__file__).parents[3]
PROGRAM = (
    "import sys, pathlib\n"
    "from tests.broken_protocol import break_protocol\n"
    "from tests.small_index import SECOND, commit_chunks\n"
    "break_protocol(sys.argv[2])\n"
    "commit_chunks(pathlib.Path(sys.argv[1]), SECOND, change=2)"
)


@pytest.mark.parametrize(
    ("fault", "point"),
    [("manifest-before-segment", "manifest-renamed"), ("manifest-in-place", "manifest-written")],
)
def test_a_kill_shows_a_broken_protocol(tmp_path: Path, fault: str, point: str) -> None:
    for crash_at, status in (("", 0), (point, -signal.SIGKILL)):
        directory = tmp_path / (crash_at or "undisturbed")
        build_index(directory, FIRST)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FOOTNOTE_CRASH_AT": crash_at}
        command = [sys.executable, "-c", PROGRAM, str(directory), fault]
        assert subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode == status
        assert bool(verify_version(directory)) == bool(crash_at)
