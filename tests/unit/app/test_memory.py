"""A ceiling on memory: what it stops, and what it does not count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import memory

MEBIBYTE = 1 << 20
pytestmark = pytest.mark.skipif(not memory.is_kept(), reason="this system keeps no ceiling")


def run(script: str, *arguments: str) -> str:
    """What a process of its own prints: the limit of this one must stay."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_allocation_above_the_ceiling_fails_and_the_process_lives() -> None:
    script = """
import numpy as np
from app import memory
assert memory.keep_below(300 << 20)
for name, take in {
    "bytes": lambda: bytes(400 << 20),
    "numpy": lambda: np.ones(400 << 20, np.uint8),
    "grown": lambda: [bytearray(1 << 20) for _ in range(400)],
}.items():
    try:
        take()
    except MemoryError:
        print(name)
print(len(bytes(100 << 20)) >> 20)
"""
    assert run(script).split() == ["bytes", "numpy", "grown", "100"]


def test_a_mapped_file_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    with path.open("wb") as file:
        file.truncate(600 * MEBIBYTE)
    script = """
import sys
import numpy as np
from app import memory
memory.keep_below(200 << 20)
print(int(np.memmap(sys.argv[1], mode="r").sum()))
"""
    assert run(script, str(path)).split() == ["0"]


def test_usage_is_that_of_the_process_named() -> None:
    own, again = memory.usage(), memory.usage(os.getpid())
    assert own is not None
    assert again is not None
    assert 0 < own.anonymous <= own.resident <= own.peak
    assert abs(own.resident - again.resident) < 50 * MEBIBYTE
    assert memory.usage(2**22 + 1) is None


def test_children_are_found_while_they_run() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in memory.children(os.getpid())
        child.communicate(b"\n")
    assert child.pid not in memory.children(os.getpid())


def test_a_shortage_is_told_from_other_errors() -> None:
    assert memory.is_shortage(MemoryError())
    assert memory.is_shortage(RuntimeError("Non-zero status code: std::bad_alloc"))
    assert memory.is_shortage(RuntimeError("can't start new thread")), "there is no room for its stack"
    wrapped = ValueError("wrapped")
    wrapped.__cause__ = MemoryError()
    assert memory.is_shortage(wrapped)
    assert not memory.is_shortage(ValueError("bad allocation of seats"))


def test_the_machine_has_memory() -> None:
    assert (memory.machine_bytes() or 0) > 256 * MEBIBYTE
