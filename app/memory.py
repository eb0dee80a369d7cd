"""Memory of a process: a ceiling, kept by the kernel, and what is in use.

The ceiling counts what the process allocates. Files that are mapped, such as indexes, are the kernel's to
drop when memory is short, and are not counted. On Linux the limit on data (`RLIMIT_DATA`) means just that:
an allocation above it fails, which Python, numpy, FAISS and SQLite report as MemoryError. Other systems do
not count mapped memory under this limit; there work is only cut to size.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KIBIBYTE = 1024
_STATUS_FIELDS = {"VmRSS": "resident", "VmHWM": "peak", "RssAnon": "anonymous", "VmData": "reserved"}

_SHORTAGE = (
    "std::bad_alloc",
    "Failed to allocate memory",
    "Cannot allocate memory",
    "can't start new thread",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Bytes of a process: in memory now and at most, mapped files included; allocated; set aside."""

    resident: int
    peak: int
    anonymous: int
    reserved: int


def usage(pid: int | None = None) -> Usage | None:
    """What a process uses, this one where none is named; None where the system does not say."""
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = {}
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name in _STATUS_FIELDS:
            found[_STATUS_FIELDS[name]] = int(value.split()[0]) * KIBIBYTE
    return Usage(**found) if len(found) == len(_STATUS_FIELDS) else None


def children(pid: int) -> Iterator[int]:
    """The processes that a process started and that run."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            yield from map(int, path.read_text().split())
        except OSError:
            continue  # the thread has ended


def is_kept() -> bool:
    """Whether this system can keep a process below a ceiling."""
    return sys.platform.startswith("linux") and usage() is not None


def keep_below(ceiling: int) -> bool:
    """Lets allocations above the ceiling fail from now on; False where the system cannot do so.

    What libraries have set aside but not touched, such as the stacks of their threads, is not counted. Where
    the process has more already, only what is there stays allowed.
    """
    used = usage()
    if not is_kept() or used is None:
        return False
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = max(ceiling, used.anonymous) + used.reserved - used.anonymous
    resource.setrlimit(resource.RLIMIT_DATA, (_lower(limit, hard), hard))
    return True


def relieve() -> None:
    """After a shortage: gives what is free back to the system, so that it counts no more."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # of the GNU library
        trim(0)


def _lower(limit: int, hard: int) -> int:
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)


def is_shortage(error: BaseException | None) -> bool:
    """Whether an error says that memory is short, in Python's words or in those of a library."""
    while error is not None:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _SHORTAGE):
            return True
        error = error.__cause__ or error.__context__
    return False


def machine_bytes() -> int | None:
    """The memory there is for this process: that of its container, else of the machine."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < 1 << 60:
            return int(text)
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    return int(meminfo.split()[1]) * KIBIBYTE
