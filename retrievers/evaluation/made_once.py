"""What is made of an evaluated collection's index once, and kept beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

from indexing.files import publish_directory
from indexing.types import ChunkId

AllTexts = Callable[[], Mapping[ChunkId, str]]
"""The texts of all chunks of the collection, read when they are asked for."""


def make_once(directory: Path, write: Callable[[Path], None]) -> None:
    """Has the directory written unless it is there; by whichever process is first, and never by half."""
    if directory.is_dir():
        return
    working = directory.with_name(f"{directory.name}.{uuid4().hex}.new")
    write(working)
    try:
        publish_directory(working, directory)
    except OSError:  # another process was first
        shutil.rmtree(working, ignore_errors=True)
