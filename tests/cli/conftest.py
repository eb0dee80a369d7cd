"""The command, run in this process on a data folder of the test's own, with an encoder without a model."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app, context, evaluation, maintenance, serve, training_run
from app.encoders import EncoderPool
from app.services import open_services
from indexing.encoding.fake import WordEncoder

PAGES = {
    "leases.md": "# Leases\n\nA job returns to the queue when its lease ends. The worker renews the lease.\n",
    "fusion.md": "# Fusion\n\nThe convex combination weighs the dense score by alpha.\n",
    "sub/tea.txt": "Warm the pot before the leaves go in.\nGreen tea wants cooler water.\n",
}


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left: its exit code, and what it wrote where."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def invoke(*arguments: object) -> Done:
    """Runs `footnote ARGUMENTS`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


@dataclass(frozen=True, slots=True)
class Footnote:
    """The command on one data folder."""

    home: Path

    def __call__(self, *arguments: object, code: int = 0) -> Done:
        """Runs a command that has to end with `code`."""
        done = invoke(*arguments, "--home", self.home)
        assert done.exit_code == code, f"{done.exit_code}: {done.out}{done.err}"
        return done

    def json(self, *arguments: object, code: int = 0) -> Any:
        """What a command prints with `--json`: one document and nothing else; no progress either."""
        done = self(*arguments, "--json", code=code)
        assert code or done.err == ""
        return done.json


@pytest.fixture(autouse=True, scope="package")
def _command_without_a_model() -> Iterator[None]:
    """No settings of whoever runs the tests; signals, logging and priority stay as they are."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith("FOOTNOTE_")]:
            patch.delenv(name)
        patch.setenv("FOOTNOTE_WORKER_LOADERS", "1")
        patch.setenv("FOOTNOTE_WORKER_POLL_SECONDS", "0.02")
        patch.setenv("FOOTNOTE_WORKER_NICE", "0")
        opened = partial(open_services, load=lambda _spec, _dir: WordEncoder())
        for module in (context, maintenance, serve):
            patch.setattr(module, "open_services", opened)
        pool = partial(EncoderPool, load=lambda _spec, _dir: WordEncoder())
        patch.setattr(evaluation, "EncoderPool", pool)
        patch.setattr(training_run, "EncoderPool", pool)
        yield


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for number, handler in signals.items():
        signal.signal(number, handler)


def write_pages(folder: Path) -> Path:
    """A folder with the pages in it."""
    for name, text in PAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    return write_pages(tmp_path / "pages")


@pytest.fixture
def footnote(tmp_path: Path, sqlite_template: Path) -> Footnote:
    return new_home(tmp_path / "home", sqlite_template)


@pytest.fixture(scope="package")
def library(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Footnote:
    """A data folder with the pages in it, for commands that only read."""
    folder = tmp_path_factory.mktemp("library")
    command = new_home(folder / "home", sqlite_template)
    command("ingest", write_pages(folder / "pages"), "--metadata", '{"kind": "page"}')
    return command


def new_home(home: Path, template: Path) -> Footnote:
    home.mkdir()
    (home / "footnote.db").write_bytes(template.read_bytes())
    return Footnote(home)
