"""The process that reads files for a `LoaderPool`: `python -m indexing.loaders.child`.

It takes requests as JSON lines on standard input and answers with frames (see `wire`) on standard output. It
lowers its own limits before it reads the first file: it cannot write files, start processes, open more than a
few files, or outlive its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from indexing.errors import LoadError
from indexing.loaders.registry import load_file
from indexing.loaders.source import LoadLimits
from indexing.loaders.wire import READY, encode_answer, encode_error

_MAX_OPEN_FILES = 64
_GRACE_SECONDS = 5
_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    """Answer requests until standard input ends."""
    out = os.dup(sys.stdout.fileno())
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, sys.stdout.fileno())  # a parser that prints must not write into the answer
    limits = LoadLimits(**json.loads(sys.stdin.buffer.readline()))
    _isolate()
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), daemon=True).start()
    _restrict(limits)
    _write(out, READY)
    while True:
        request = json.loads(requests.get())
        _set_limits(float(request["seconds"]), float(request["wall_seconds"]))
        for piece in _answer(Path(request["path"]), request["filename"], limits):
            _write(out, piece)
        _clear_limits()


def _receive(requests: queue.SimpleQueue[bytes]) -> None:
    """Pass requests on; when the parent is gone, so is this process, even in the middle of a file."""
    while line := sys.stdin.buffer.readline():
        requests.put(line)
    os._exit(0)


def _answer(path: Path, filename: str, limits: LoadLimits) -> Iterator[bytes]:
    try:
        pieces = encode_answer(load_file(path, filename=filename, limits=limits))
        first = next(pieces)
    except LoadError as exc:
        return iter((encode_error(exc),))
    except MemoryError:
        return iter((encode_error(LoadError("loader_memory", "the text takes more memory than allowed")),))
    return chain((first,), pieces)


def _isolate() -> None:
    """Leave the network and give up new rights, where the kernel lets a process do so."""
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (
        lambda: libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        lambda: libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET),
    ):
        _attempt(call)


def _attempt(call: Callable[[], object]) -> None:
    try:
        call()
    except (AttributeError, OSError):
        return  # not a Linux kernel; the resource limits still hold


def _restrict(limits: LoadLimits) -> None:
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_DATA, limits.memory_bytes),  # in place of the parent's
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lowered, lowered))


def _set_limits(seconds: float, wall_seconds: float) -> None:
    """End this process if one file takes too much processor time, or too long, whether the parent lives or
    not."""
    usage = time.process_time()
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage + seconds) + _GRACE_SECONDS, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds + _GRACE_SECONDS)


def _clear_limits() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main()
