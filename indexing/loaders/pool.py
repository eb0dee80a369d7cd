"""Loading in child processes, since parsers meet hostile files."""

from __future__ import annotations

import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from indexing.errors import LoadError
from indexing.loaders.source import LoadLimits
from indexing.loaders.wire import FRAME, MAX_HEADER_BYTES, READY, decode_answer
from indexing.long_text import LongText, whole_characters
from indexing.types import LoadedText

_START_SECONDS = 60.0
_WALL_FACTOR = 4.0
"""A file may take so many times its processor time: on a busy machine it waits for others."""
_READ_BYTES = 1 << 20
_PART_BYTES = 1 << 20
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")


class LoaderPool:
    """Reads files in child processes with limits on memory and time; safe to share between threads.

    A child is started at its first use, reads many files, and is replaced after `files_per_child` of them, or
    when it crashes, hangs or runs out of memory. Children are fresh interpreters that import the loaders and
    nothing of the parent, know nothing of its environment, and end when it does, even if it is killed.
    """

    def __init__(
        self, n_children: int = 1, *, limits: LoadLimits | None = None, files_per_child: int = 1000
    ) -> None:
        self._limits = limits or LoadLimits()
        self._files_per_child = files_per_child
        self._temporary = tempfile.TemporaryDirectory(prefix="footnote-loader-")
        self.folder = self._temporary.name  # empty; the children work in it and cannot write to it
        self._lock = threading.Lock()
        self._is_closed = False
        self._children = [_Child(self._limits, Path(self.folder)) for _ in range(n_children)]
        self._free: queue.LifoQueue[_Child] = queue.LifoQueue()
        for child in self._children:
            self._free.put(child)

    def load(self, path: Path, *, filename: str, timeout_seconds: float | None = None) -> LoadedText:
        """The canonical text of a file; waits for a free child.

        Reading may take so many seconds of processor time, and four times as long by the clock. Raises
        LoadError: what the loader says of the file, else loader_timeout, loader_memory or loader_crashed. The
        time of waiting for a child, or for one to start, does not count.
        """
        seconds = timeout_seconds or self._limits.seconds_for(path.stat().st_size if path.exists() else 0)
        child = self._free.get()
        try:
            if self._is_closed:
                raise RuntimeError("the pool is closed")
            if child.n_files >= self._files_per_child:
                child.stop()
            return child.load(path.resolve(), filename, seconds)
        finally:
            self._free.put(child)

    def close(self) -> None:
        """Stop all children, also those that read a file, whose `load` then raises loader_crashed."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        for child in self._children:
            child.kill()
        idle = [self._free.get() for _ in self._children]  # each comes back when its `load` has seen the end
        for child in idle:
            child.stop()
            self._free.put(child)
        self._temporary.cleanup()

    def __enter__(self) -> LoaderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Child:
    """One child process, started when it is needed. Used by one thread at a time, except for `kill`."""

    def __init__(self, limits: LoadLimits, folder: Path) -> None:
        self._limits = limits
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.n_files = 0

    def load(self, path: Path, filename: str, seconds: float) -> LoadedText:
        """What the child answers; whatever goes wrong, the next call finds a fresh child."""
        process = self._process or self._start()
        self.n_files += 1
        wall_seconds = _WALL_FACTOR * seconds
        request = {"path": str(path), "filename": filename, "seconds": seconds, "wall_seconds": wall_seconds}
        try:
            header, text = self._exchange(process, json.dumps(request).encode() + b"\n", wall_seconds)
        except TimeoutError as exc:
            self.stop()
            said = f"reading the file takes over {wall_seconds:g} seconds"
            raise LoadError("loader_timeout", said) from exc
        except (OSError, EOFError, ValueError) as exc:
            raise self._crash(process, seconds) from exc
        except BaseException:
            self.stop()  # what is left of this answer would be taken for that to the next request
            raise
        try:
            return decode_answer(header, text)
        except LoadError as exc:
            if exc.code in ("loader_memory", "loader_crashed"):
                self.stop()
            raise

    def kill(self) -> None:
        """End the process from another thread than the one that reads from it."""
        process = self._process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """Kill the process, if there is one, and forget it."""
        process, self._process = self._process, None
        self.n_files = 0
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "indexing.loaders.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=self._folder,
            env=self._environment(),
        )
        self._process = process
        try:
            self._send(process, json.dumps(asdict(self._limits)).encode() + b"\n")
            with selectors.DefaultSelector() as selector:
                selector.register(_stdout(process), selectors.EVENT_READ)
                self._receive(process, selector, len(READY), time.monotonic() + _START_SECONDS)
        except (OSError, EOFError, TimeoutError) as exc:
            self.stop()
            raise LoadError("loader_crashed", "the process that reads files does not start") from exc
        return process

    def _environment(self) -> dict[str, str]:
        """No more than Python needs: a file that takes the child over finds no secrets in it."""
        own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return own | {
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }

    def _exchange(
        self, process: subprocess.Popen[bytes], request: bytes, seconds: float
    ) -> tuple[bytes, bytes | LongText]:
        self._send(process, request)
        with selectors.DefaultSelector() as selector:
            selector.register(_stdout(process), selectors.EVENT_READ)
            deadline = time.monotonic() + seconds
            frame = self._receive(process, selector, FRAME.size, deadline)
            n_header, n_text = FRAME.unpack(frame)
            if n_header > MAX_HEADER_BYTES or n_text > 4 * self._limits.text_chars:
                raise ValueError("the answer is longer than any can be")
            header = self._receive(process, selector, n_header, deadline)
            if n_text <= _PART_BYTES:
                return header, self._receive(process, selector, n_text, deadline)
            return header, LongText(self._receive_parts(process, selector, n_text, deadline))

    def _receive_parts(
        self,
        process: subprocess.Popen[bytes],
        selector: selectors.BaseSelector,
        n_bytes: int,
        deadline: float,
    ) -> Iterator[bytes]:
        """UTF-8 in parts of whole characters."""
        left = b""
        while n_bytes:
            received = self._receive(process, selector, min(n_bytes, _PART_BYTES), deadline)
            n_bytes -= len(received)
            part = left + received
            n_whole = whole_characters(part)
            left = part[n_whole:]
            yield part[:n_whole]
        yield left

    @staticmethod
    def _send(process: subprocess.Popen[bytes], data: bytes) -> None:
        assert process.stdin is not None
        process.stdin.write(data)

    @staticmethod
    def _receive(
        process: subprocess.Popen[bytes], selector: selectors.BaseSelector, n_bytes: int, deadline: float
    ) -> bytes:
        parts = bytearray()
        while len(parts) < n_bytes:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            part = os.read(_stdout(process), min(_READ_BYTES, n_bytes - len(parts)))
            if not part:
                raise EOFError("the child ended")
            parts += part
        return bytes(parts)

    def _crash(self, process: subprocess.Popen[bytes], seconds: float) -> LoadError:
        """The error for a child that ended by itself, told by how it ended."""
        self.stop()
        code = process.returncode
        if code in (-signal.SIGPROF, -signal.SIGXCPU):
            said = f"reading the file takes over {seconds:g} seconds of processor time"
            return LoadError("loader_timeout", said)
        if code == -signal.SIGALRM:
            return LoadError("loader_timeout", "reading the file takes too long")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        return LoadError("loader_crashed", f"the process that read the file ended with {how}")


def _stdout(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    return process.stdout.fileno()
