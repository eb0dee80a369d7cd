"""Index versions: created empty, extended by commits that happen wholly or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from indexing.commit import Commit
from indexing.errors import IndexMissing
from indexing.files import checkpoint, sync
from indexing.locks import DirectoryLock, MergeLock
from indexing.manifest import NAME, Manifest, Retired, VersionSpec, load_manifest, save_manifest
from indexing.snapshot import Snapshot

CHECKPOINTS = (
    "segment-written",
    "segment-renamed",
    "dead-rows-written",
    "manifest-written",
    "manifest-renamed",
    "retired-removed",
)
"""Where `indexing.files.checkpoint` can kill a commit, in this order."""

KEPT_COMMITS = 2
NODES_NAME = "nodes"
"""A directory beside the segments, of which a version knows nothing: the indexes of nodes."""
MERGE_NAME = "merge.new"
"""The working directory of the one who holds the merge lock."""


def create_version(directory: Path, spec: VersionSpec) -> None:
    """Makes an empty version; does nothing if the directory has one with the same spec already.

    Raises ValueError if it has another.
    """
    try:
        present = load_manifest(directory).spec
    except IndexMissing:
        directory.mkdir(parents=True, exist_ok=True)
        sync(directory.parent)
        save_manifest(directory, Manifest(spec=spec, created_at=datetime.now(UTC).isoformat()))
        return
    if present != spec:
        raise ValueError(f"{directory} holds another index version: {present}")


class VersionWriter:
    """The only writer of a version: holds a lock between processes that the system releases if this one dies.

    Waits for the lock; after `timeout_seconds` raises TimeoutError. What a killed writer left is removed.
    """

    def __init__(self, directory: Path, *, timeout_seconds: float | None = None) -> None:
        load_manifest(directory)
        self.directory = directory
        self._lock = DirectoryLock(directory)
        self._timeout_seconds = timeout_seconds
        self._snapshot: Snapshot | None = None

    def __enter__(self) -> VersionWriter:
        self._lock.acquire(self._timeout_seconds)
        try:
            self._remove_leftovers()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._snapshot = None
        try:
            self._remove_leftovers()
        finally:
            self._lock.release()

    @property
    def manifest(self) -> Manifest:
        """The state as of the last commit."""
        return load_manifest(self.directory)

    @contextmanager
    def commit(self, *, change: int) -> Iterator[Commit]:
        """One change of the version, visible as a whole when the block ends; an exception in it undoes it.

        `change` is the number of the last change it contains. Committing a change again is harmless.
        """
        self._remove_leftovers()
        self._snapshot = Snapshot.open(self.directory, previous=self._snapshot)
        with Commit(self.directory, self._snapshot, change, self.publish) as commit:
            yield commit
            commit.finish()

    def publish(self, after: Manifest, *, keep: bool = True) -> Manifest:
        """Makes `after` the state of the version, as its next commit, and gives what was written.

        What readers of the last commits may still open stays a while, unless `keep` is false.
        """
        before = self.manifest
        number = before.commit + 1
        recent = [retired for retired in before.retired if retired.commit > number - KEPT_COMMITS]
        retired = [*recent, *(Retired(name=n, commit=number) for n in sorted(before.names - after.names))]
        after = replace(after, commit=number, retired=tuple(retired) if keep else ())
        save_manifest(self.directory, after)
        kept = {retired.name for retired in after.retired}
        for name in (before.names | {retired.name for retired in before.retired}) - after.names - kept:
            _remove(self.directory / name)
        checkpoint("retired-removed")
        return after

    def _remove_leftovers(self) -> None:
        manifest = load_manifest(self.directory)
        kept = {NAME, NODES_NAME, self._lock.name, MergeLock.name, *manifest.names}
        kept |= {retired.name for retired in manifest.retired}
        left = {path.name for path in self.directory.iterdir()} - kept
        if MERGE_NAME in left:
            self._remove_abandoned_merge()
        for name in left - {MERGE_NAME}:
            _remove(self.directory / name)

    def _remove_abandoned_merge(self) -> None:
        lock = MergeLock(self.directory)
        try:
            lock.acquire(timeout_seconds=0)
        except TimeoutError:
            return
        try:
            _remove(self.directory / MERGE_NAME)
        finally:
            lock.release()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
