"""Files that are either wholly there or not there: fsync, rename, checksums."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NPY_HEADER_BYTES = 128
_passed: Counter[str] = Counter()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What a file must be; `name` is its path inside the version directory, with forward slashes."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, root: Path, path: Path) -> FileRecord:
        return cls(name=path.relative_to(root).as_posix(), size=path.stat().st_size, sha256=sha256_of(path))


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def records_of(root: Path, directory: Path) -> tuple[FileRecord, ...]:
    """A record of every file of a flat directory, by name."""
    return tuple(FileRecord.of(root, path) for path in sorted(directory.iterdir()))


def sync(path: Path) -> None:
    """Waits until a file's bytes, or a directory's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file so that a reader, now or after a crash, sees the old bytes or the new ones."""
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    checkpoint(f"{path.stem}-written")
    beside.replace(path)
    checkpoint(f"{path.stem}-renamed")
    sync(path.parent)


def publish_directory(working: Path, final: Path, *, fresh: Iterable[Path] | None = None) -> None:
    """Syncs the files of a flat directory (all, or only the `fresh` ones), then renames it in one step."""
    for path in working.iterdir() if fresh is None else fresh:
        sync(path)
    sync(working)
    working.rename(final)
    sync(final.parent)


def link_file(source: Path, target: Path) -> None:
    """The same file under another name; a synced copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync(target)


def load_array(path: Path) -> NDArray[Any]:
    """An array saved with `numpy.save`, mapped from the file and read-only."""
    # numpy cannot map an array without elements, which is a header and nothing else
    if path.stat().st_size <= _NPY_HEADER_BYTES:
        return np.asarray(np.load(path, allow_pickle=False))
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def checkpoint(name: str) -> None:
    """Marks a point where a crash must be harmless.

    With `FOOTNOTE_CRASH_AT=name` or `name:3` in the environment the process kills itself here (at the
    third passing), which is how the tests show it.
    """
    wanted = os.environ.get("FOOTNOTE_CRASH_AT")
    if wanted is None:
        return
    point, _, passing = wanted.partition(":")
    if point == name:
        _passed[name] += 1
        if _passed[name] == int(passing or 1):
            os.kill(os.getpid(), signal.SIGKILL)
