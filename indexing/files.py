"""Files that are either wholly there or not there: fsync, rename, checksums."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from zlib import crc32

from indexing.errors import IndexDamaged

EDGE_BYTES = 65_536
_passed: Counter[str] = Counter()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What a file must be; `name` is its path inside the version directory, with forward slashes.

    `edges` is the CRC-32 of its first and last 64 KiB, where formats keep what a reader has to trust.
    """

    name: str
    size: int
    sha256: str
    edges: int

    @classmethod
    def of(cls, path: Path, name: str) -> FileRecord:
        return cls(name=name, size=path.stat().st_size, sha256=sha256_of(path), edges=edges_of(path))


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def edges_of(path: Path) -> int:
    """The CRC-32 of the first and the last 64 KiB of a file; where they overlap, of all bytes once."""
    with path.open("rb") as file:
        first = file.read(EDGE_BYTES)
        file.seek(max(len(first), file.seek(0, os.SEEK_END) - EDGE_BYTES))
        return crc32(file.read(), crc32(first))


def records_of(directory: Path, name: str) -> tuple[FileRecord, ...]:
    """A record of every file of a flat directory that is going to be called `name`, by name."""
    return tuple(FileRecord.of(path, f"{name}/{path.name}") for path in sorted(directory.iterdir()))


def check_file(root: Path, record: FileRecord) -> None:
    """Raises IndexDamaged if a file has another size than it must or other bytes at its edges.

    A look that costs the same for every file; FileNotFoundError if there is none.
    """
    path = root / record.name
    size = path.stat().st_size
    if size != record.size:
        raise IndexDamaged(f"{record.name} has {size} bytes instead of {record.size}.")
    if edges_of(path) != record.edges:
        raise IndexDamaged(f"{record.name} has other bytes than were written.")


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


def sync_directory(directory: Path) -> None:
    """Waits until a flat directory and its files are on disk."""
    for path in directory.iterdir():
        sync(path)
    sync(directory)


def publish_directory(working: Path, final: Path) -> None:
    """Gives a directory that is on disk its name, in one step."""
    working.rename(final)
    sync(final.parent)


def link_file(source: Path, target: Path) -> None:
    """The same file under another name; a synced copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync(target)


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
