"""A process that has everything imported and forks a `footnote` command whenever it is asked to.

    python -m tests.faults.harness.zygote

reads one JSON object a line from standard input, and writes one a line to standard output:

    {"spawn": 7, "argv": […], "env": {…}, "log": FILE}    {"spawned": 7, "pid": 123}
    {"signal": 9, "pid": 123}                             {"exited": 123, "code": -9}

A command is a process of its own that runs `app.cli` as the installed one does, over the encoder that needs
no model. Only this process reaps its children, so a signal never meets a stranger with the same number.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import sys
import traceback
from typing import Any, NoReturn

import app.api.idempotency
import app.db.engine
from app.cli import app as footnote
from app.services import open_services
from indexing.encoding.factory import EncoderSpec
from indexing.encoding.fake import WordEncoder
from tests.faults.harness import clock, sabotage

PR_SET_PDEATHSIG = 1


def load_words(spec: EncoderSpec, _models_dir: object) -> WordEncoder:
    """Another number of dimensions is another encoder."""
    return WordEncoder(dim=spec.dim or 64)


def _run(argv: list[str], env: dict[str, str], log: str) -> NoReturn:
    """Becomes the command; never returns."""
    code = 70
    try:
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.setsid()
        _die_with_parent()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, handle), (2, handle)):
            os.dup2(source, target)
        os.environ.update(env)
        open_services.__wrapped__.__defaults__ = (load_words,)  # type: ignore[attr-defined]
        app.db.engine.BUSY_TIMEOUT_SECONDS = float(
            os.environ.get("FAULTS_BUSY_SECONDS", app.db.engine.BUSY_TIMEOUT_SECONDS)
        )
        clock.install()
        sabotage.install()
        app.api.idempotency.LEASE_SECONDS = 1.0
        footnote(argv)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 0 if ending.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with_parent() -> None:
    """Nothing is left running when the tests are killed themselves."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)


class _Zygote:
    def __init__(self) -> None:
        self._children: set[int] = set()

    def obey(self, order: dict[str, Any]) -> None:
        if "spawn" in order:
            pid = os.fork()
            if pid == 0:
                _run(order["argv"], order["env"], order["log"])
            self._children.add(pid)
            _say({"spawned": order["spawn"], "pid": pid})
        elif order["pid"] in self._children:
            os.kill(order["pid"], order["signal"])

    def reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)
            _say({"exited": pid, "code": os.waitstatus_to_exitcode(status)})

    def end(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def main() -> None:
    zygote = _Zygote()
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake)
    left = b""
    _say({"ready": os.getpid()})
    with selectors.DefaultSelector() as selector:
        for source in (0, woken):
            selector.register(source, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 4096)
                zygote.reap()
            if 0 in ready:
                read = os.read(0, 65536)
                if not read:
                    zygote.end()
                    return
                *lines, left = (left + read).split(b"\n")
                for line in lines:
                    zygote.obey(json.loads(line))


if __name__ == "__main__":
    main()
