"""Commands of Footnote as processes of their own, forked by one that has everything imported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
START_SECONDS = 60.0


class Process:
    """A running command. `code` is None while it runs, negative where a signal ended it."""

    def __init__(self, zygote: Zygote, argv: Sequence[str], log: Path) -> None:
        self.argv = tuple(argv)
        self.log = log
        self.pid = 0
        self.code: int | None = None
        self.ended = threading.Event()
        self._zygote = zygote

    @property
    def is_alive(self) -> bool:
        return not self.ended.is_set()

    def send(self, number: int) -> None:
        """Sends a signal; nothing happens when the process has ended."""
        self._zygote.signal(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def wait(self, timeout_seconds: float) -> int:
        """The exit code. Raises TimeoutError, with the end of what the command wrote."""
        if not self.ended.wait(timeout_seconds):
            raise TimeoutError(f"{self.argv} runs after {timeout_seconds} s: {self.said()}")
        assert self.code is not None
        return self.code

    def said(self, n_chars: int = 2000) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-n_chars:] if self.log.exists() else ""


class Zygote:
    """Forks commands; see `tests.faults.harness.zygote`. Use `running_zygote`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._ordered: dict[int, Process] = {}
        self._running: dict[int, Process] = {}
        self._spawned: dict[int, threading.Event] = {}
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.harness.zygote"],
            cwd=ROOT,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("FOOTNOTE_")},
                # A fork has only the thread that forked.
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                # What is left by killed loaders is left here.
                "TMPDIR": str(folder),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="zygote", daemon=True)
        self._reader.start()
        if not self._ready.wait(START_SECONDS):
            raise TimeoutError("the process that forks commands does not start")

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, log: Path | None = None
    ) -> Process:
        number = next(self._numbers)
        process = Process(self, argv, log or self.folder / f"{number}-{argv[0]}.log")
        spawned = threading.Event()
        with self._lock:
            self._ordered[number] = process
            self._spawned[number] = spawned
        self._say({"spawn": number, "argv": list(argv), "env": dict(env or {}), "log": str(process.log)})
        if not spawned.wait(START_SECONDS):
            raise TimeoutError(f"{argv} was not started")
        return process

    def signal(self, pid: int, number: int) -> None:
        self._say({"signal": number, "pid": pid})

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.close()
        self._process.wait(timeout=START_SECONDS)
        self._reader.join(timeout=START_SECONDS)
        self._process.stdout.close()

    def _say(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._lock:
            if not self._process.stdin.closed:
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._hear(json.loads(line))

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "ready" in message:
            self._ready.set()
        elif "spawned" in message:
            with self._lock:
                process = self._ordered.pop(message["spawned"])
                process.pid = message["pid"]
                self._running[process.pid] = process
                self._spawned.pop(message["spawned"]).set()
        else:
            with self._lock:
                process = self._running.pop(message["exited"])
            process.code = message["code"]
            process.ended.set()


@contextmanager
def running_zygote(folder: Path) -> Iterator[Zygote]:
    """Commands started by it write to logs in the folder, and are killed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    zygote = Zygote(folder)
    try:
        yield zygote
    finally:
        zygote.close()
