"""Protocols broken on purpose: `FAULTS_BREAK=name` in the environment of a command.

Each gives the right state in the end as long as nothing is killed, so only a harness that kills can tell.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, BinaryIO, Final

from app.documents import ingestion
from app.store import FileStore, StoredFile
from app.upkeep import repairing
from indexing.files import checkpoint
from tests.broken_protocol import Fault, break_protocol

VARIABLE: Final = "FAULTS_BREAK"


def _without_mending(fault: Fault) -> None:
    """A worker mends a damaged index as soon as it sees one, which would hide what damaged it."""
    break_protocol(fault)
    repairing.mend_served = lambda *_: False  # type: ignore[assignment]


def _done_before_it_is_done() -> None:
    """A job is recorded as done when its batch begins."""
    begin = ingestion.begin

    def begin_and_succeed(services: Any, board: Any, jobs: Sequence[Any]) -> Any:
        begun = begin(services, board, jobs)
        with services.write() as session:
            board.succeed(session, [item.job for item in begun])
        return begun

    ingestion.begin = begin_and_succeed


def _file_in_place() -> None:
    """A file is written under its name, and not beside it and renamed."""

    def add(self: FileStore, stream: BinaryIO, *, max_bytes: int | None = None) -> StoredFile:
        data = stream.read()
        stored = StoredFile(content_hash=sha256(data).hexdigest(), n_bytes=len(data))
        path = self.path(stored.content_hash)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                checkpoint("file-written")
                file.write(data[len(data) // 2 :])
        return stored

    FileStore.add = add  # type: ignore[method-assign]


BREAKS: Final[Mapping[str, Callable[[], None]]] = {
    "manifest-before-segment": partial(_without_mending, "manifest-before-segment"),
    "manifest-in-place": partial(_without_mending, "manifest-in-place"),
    "done-before-it-is-done": _done_before_it_is_done,
    "file-in-place": _file_in_place,
}


def install() -> None:
    """Breaks what the environment says; nothing by default."""
    name = os.environ.get(VARIABLE)
    if name:
        BREAKS[name]()
