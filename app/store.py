"""The content-addressed store of original files: `files/ab/abcdef…`, named by sha256."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, TextIO

from app.errors import PayloadTooLarge, Unavailable
from app.outages import STORAGE_MISSING
from indexing.files import checkpoint

BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    content_hash: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class FileStore:
    """Files by hash. Adding the same bytes twice keeps them once; safe between processes.

    Whoever adds files holds `adding` until the database names them; whoever removes what it names no longer
    holds `removing`. So no file is removed that was found here and is about to be named.
    """

    folder: Path

    def adding(self) -> AbstractContextManager[None]:
        """Any number may add at once."""
        return self._locked(fcntl.LOCK_SH)

    def removing(self) -> AbstractContextManager[None]:
        """One removes, and meanwhile no one adds."""
        return self._locked(fcntl.LOCK_EX)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        with self._lock_file() as handle:
            fcntl.flock(handle, kind)  # released with the file, also when the process is killed
            yield

    def _lock_file(self) -> TextIO:
        self.check()
        return (self.folder / ".lock").open("w")

    def check(self) -> None:
        """Raises Unavailable (`storage_missing`) where the folder is gone: moved, or on a disk that is not
        mounted. A new one at its place would take files that no one finds again."""
        if not self.folder.is_dir():
            detail = f"The folder of original files is gone from {self.folder}; put it back, or start again."
            raise Unavailable(detail, code=STORAGE_MISSING)

    def path(self, content_hash: str) -> Path:
        return self.folder / content_hash[:2] / content_hash

    def add(self, stream: BinaryIO, *, max_bytes: int | None = None) -> StoredFile:
        """Copies the stream into the store, whose folder must be there; on return the bytes are on disk.

        Raises PayloadTooLarge when there are more than `max_bytes`; nothing is kept then.
        """
        incoming = self.folder / "incoming"
        incoming.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=incoming)
        written = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                stored = _copy(stream, out, max_bytes)
                out.flush()
                os.fsync(out.fileno())
            checkpoint("file-written")
            self._publish(written, self.path(stored.content_hash))
            checkpoint("file-stored")
        finally:
            written.unlink(missing_ok=True)
        return stored

    def sweep(self, older_than_seconds: float = 3600.0) -> int:
        """Removes what a killed process left half copied; gives how many files that were."""
        before = time.time() - older_than_seconds
        left = [path for path in (self.folder / "incoming").glob("*") if path.stat().st_mtime < before]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def folders(self) -> Iterator[list[str]]:
        """The hashes of the files, folder by folder, sorted."""
        for folder in sorted(self.folder.glob("??")):
            yield sorted(path.name for path in folder.iterdir())

    def remove(self, content_hash: str) -> bool:
        """Whether there was such a file; it is gone now."""
        path = self.path(content_hash)
        existed = path.exists()
        path.unlink(missing_ok=True)
        checkpoint("file-removed")
        return existed

    def _publish(self, written: Path, final: Path) -> None:
        if final.exists():
            return
        final.parent.mkdir(exist_ok=True)
        written.rename(final)
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _copy(stream: BinaryIO, out: BinaryIO, max_bytes: int | None) -> StoredFile:
    digest, n_bytes = sha256(), 0
    while block := stream.read(BLOCK):
        n_bytes += len(block)
        if max_bytes is not None and n_bytes > max_bytes:
            raise PayloadTooLarge(f"The file has more than {max_bytes:,} bytes, the limit set here.")
        digest.update(block)
        out.write(block)
    return StoredFile(content_hash=digest.hexdigest(), n_bytes=n_bytes)
