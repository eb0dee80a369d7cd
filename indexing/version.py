"""Index versions: created empty, extended by commits that happen wholly or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np

from indexing.errors import IndexMissing
from indexing.files import FileRecord, checkpoint, publish_directory, records_of, sync
from indexing.locks import DirectoryLock
from indexing.manifest import (
    NAME,
    Manifest,
    Retired,
    SegmentRecord,
    VersionSpec,
    load_manifest,
    save_manifest,
)
from indexing.segments import Rows, Segment, SegmentRows, plan_merges
from indexing.snapshot import Snapshot
from indexing.terms import TermTableBuilder
from indexing.types import Floats, Ids
from indexing.vectors import Halves, Mask

CHECKPOINTS = (
    "segment-written",
    "segment-renamed",
    "tombstones-written",
    "manifest-written",
    "manifest-renamed",
    "retired-removed",
)
"""Where `indexing.files.checkpoint` can kill a commit, in this order."""

FLUSH_ROWS = 131_072
KEPT_COMMITS = 2


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

    def __enter__(self) -> VersionWriter:
        self._lock.acquire(self._timeout_seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        commit = Commit(self.directory, Snapshot.open(self.directory), change)
        yield commit
        commit.finish()

    def _remove_leftovers(self) -> None:
        manifest = load_manifest(self.directory)
        kept = {NAME, self._lock.name, *manifest.names, *(retired.name for retired in manifest.retired)}
        for path in self.directory.iterdir():
            if path.name not in kept:
                _remove(path)


class Commit:
    """What is to change. A chunk id stands for its content: what is there already is not written again.

    The order of calls is of no account: `replace_documents` concerns what was in the version before.
    """

    def __init__(self, directory: Path, base: Snapshot, change: int) -> None:
        self._directory = directory
        self._base = base
        self._change = change
        self._next_segment = base.manifest.next_segment
        self._pending = _Pending()
        self._written: list[SegmentRecord] = []
        self._added: set[int] = set()
        self._removed: list[Ids] = []
        n_segments = len(base.segments.segments)
        self._kept: list[list[Rows]] = [[] for _ in range(n_segments)]
        self._overwritten: list[list[Rows]] = [[] for _ in range(n_segments)]

    def replace_documents(self, document_ids: Ids) -> None:
        """Removes everything of these documents that is not added in this commit."""
        self._removed.append(np.asarray(document_ids, dtype=np.int64))

    def add(self, *, chunk_ids: Ids, document_ids: Ids, texts: Sequence[str], vectors: Floats) -> None:
        """Adds chunks: n ids, n document ids, n contextual texts, vectors of shape (n, dim).

        May be called many times with a few thousand chunks each; memory stays bounded. Raises ValueError if
        the lengths do not agree or a vector is not finite.
        """
        chunk_ids = np.asarray(chunk_ids, dtype=np.int64)
        document_ids = np.asarray(document_ids, dtype=np.int64)
        self._check(chunk_ids, document_ids, texts, vectors)
        halves = vectors.astype(np.float16)
        new = self._set_present_aside(chunk_ids, document_ids, halves)
        for position in np.flatnonzero(new).tolist():
            chunk_id = int(chunk_ids[position])
            if chunk_id in self._added:
                new[position] = False
                continue
            self._added.add(chunk_id)
            self._pending.terms.add(texts[position])
        self._pending.extend(chunk_ids[new], document_ids[new], halves[new])
        if len(self._pending) >= FLUSH_ROWS:
            self._written.append(self._write(self._pending.rows()))
            self._pending = _Pending()

    def finish(self) -> None:
        manifest = self._base.manifest
        dead = self._bury()
        n_dead = sum(map(len, dead)) - sum(len(segment.dead) for segment in self._base.segments.segments)
        if self._pending or self._written or n_dead:
            segments, tombstones = self._arrange(dead)
            manifest = replace(manifest, segments=segments, tombstones=tombstones)
            manifest = _counted(self._directory, manifest)
        elif self._change <= manifest.change:
            return
        commit = manifest.commit + 1
        manifest = replace(
            manifest,
            commit=commit,
            change=max(self._change, manifest.change),
            next_segment=self._next_segment,
            retired=_retired(self._base.manifest, manifest, commit),
        )
        save_manifest(self._directory, manifest)
        for retired in set(self._base.manifest.retired) - set(manifest.retired):
            _remove(self._directory / retired.name)
        checkpoint("retired-removed")

    def _check(self, chunk_ids: Ids, document_ids: Ids, texts: Sequence[str], vectors: Floats) -> None:
        n_chunks, dim = len(chunk_ids), self._base.manifest.spec.dim
        if len(document_ids) != n_chunks or len(texts) != n_chunks or vectors.shape != (n_chunks, dim):
            raise ValueError(
                f"{n_chunks} chunk ids, {len(document_ids)} document ids, {len(texts)} texts and vectors of "
                f"shape {vectors.shape} do not go together; the dimension is {dim}."
            )
        if not np.isfinite(vectors).all():
            raise ValueError("A vector has an element that is not a finite number.")

    def _set_present_aside(self, chunk_ids: Ids, document_ids: Ids, halves: Halves) -> Mask:
        """Which chunks are new; of the others, the equal ones are kept and the changed ones overwritten."""
        new = np.ones(len(chunk_ids), dtype=np.bool_)
        for number, segment in enumerate(self._base.segments.segments):
            rows = segment.find(chunk_ids)
            positions = np.flatnonzero(rows >= 0)
            rows = rows[positions]
            same = (segment.document_ids[rows] == document_ids[positions]) & (
                segment.vectors.halves[rows] == halves[positions]
            ).all(axis=1)
            new[positions[same]] = False
            self._kept[number].append(rows[same])
            self._overwritten[number].append(rows[~same])
        return new

    def _bury(self) -> list[Rows]:
        """The dead rows of every base segment."""
        none = np.empty(0, dtype=np.int64)
        removed = np.unique(np.concatenate([none, *self._removed]))
        dead = []
        for segment, kept, overwritten in zip(
            self._base.segments.segments, self._kept, self._overwritten, strict=True
        ):
            replaced = np.unique(np.concatenate([none, *overwritten]))
            gone = np.setdiff1d(segment.rows_of_documents(removed), np.concatenate([none, *kept, replaced]))
            dead.append(np.unique(np.concatenate([segment.dead, replaced, gone])))
        return dead

    def _arrange(self, dead: list[Rows]) -> tuple[tuple[SegmentRecord, ...], FileRecord | None]:
        """The segments of the new state, some merged, and the tombstones of those left as they were."""
        pending = [self._pending.rows()] if self._pending else []
        records = [*self._base.manifest.segments, *self._written]
        n_dead = [len(rows) for rows in dead] + [0] * (len(self._written) + len(pending))
        n_rows = [record.n_rows for record in records] + [len(rows) for rows in pending]
        n_live = [rows - gone for rows, gone in zip(n_rows, n_dead, strict=True)]
        groups = plan_merges(n_live, n_dead)
        merged = {member for group in groups for member in group}
        if pending and len(records) not in merged:
            groups.append([len(records)])
        new = []
        for group in groups:
            parts = [
                pending[0] if member == len(records) else self._read(records[member], dead, member)
                for member in group
                if n_live[member]
            ]
            if parts:
                new.append(self._write(SegmentRows.merge(parts)))
        left = [number for number in range(len(records)) if number not in merged]
        dead_left = [dead[number] if number < len(dead) else np.empty(0, dtype=np.int64) for number in left]
        return (*(records[number] for number in left), *new), self._write_tombstones(dead_left)

    def _read(self, record: SegmentRecord, dead: list[Rows], number: int) -> SegmentRows:
        gone = dead[number] if number < len(dead) else np.empty(0, dtype=np.int64)
        dim = self._base.manifest.spec.dim
        return Segment(record.name, self._directory / record.name, record.kind, dim, gone).read()

    def _write(self, rows: SegmentRows) -> SegmentRecord:
        name = f"segment-{self._next_segment:08d}"
        self._next_segment += 1
        working = self._directory / f"{name}.new"
        working.mkdir()
        kind = rows.write(working)
        checkpoint("segment-written")
        publish_directory(working, self._directory / name)
        checkpoint("segment-renamed")
        files = records_of(self._directory, self._directory / name)
        return SegmentRecord(name=name, n_rows=len(rows), kind=kind, files=files)

    def _write_tombstones(self, dead: list[Rows]) -> FileRecord | None:
        if not any(len(rows) for rows in dead):
            return None
        numbers = np.repeat(np.arange(len(dead)), [len(rows) for rows in dead])
        path = self._directory / f"tombstones-{self._base.manifest.commit + 1:08d}.npy"
        np.save(path, np.stack([numbers, np.concatenate(dead)], axis=1), allow_pickle=False)
        sync(path)
        checkpoint("tombstones-written")
        return FileRecord.of(self._directory, path)


class _Pending:
    """Rows not yet written."""

    def __init__(self) -> None:
        self.terms = TermTableBuilder()
        self._chunk_ids: list[Ids] = []
        self._document_ids: list[Ids] = []
        self._vectors: list[Halves] = []

    def __len__(self) -> int:
        return len(self.terms)

    def extend(self, chunk_ids: Ids, document_ids: Ids, vectors: Halves) -> None:
        self._chunk_ids.append(chunk_ids)
        self._document_ids.append(document_ids)
        self._vectors.append(vectors)

    def rows(self) -> SegmentRows:
        rows = SegmentRows(
            chunk_ids=np.concatenate(self._chunk_ids),
            document_ids=np.concatenate(self._document_ids),
            vectors=np.concatenate(self._vectors),
            terms=self.terms.build(),
        )
        return SegmentRows.merge([rows])


def _counted(directory: Path, manifest: Manifest) -> Manifest:
    """The manifest with the counts of what it points to, which is thereby known to open."""
    with Snapshot(directory, manifest) as snapshot:
        n_documents, n_chunks = len(snapshot.documents()), snapshot.segments.n_live
    return replace(manifest, n_documents=n_documents, n_chunks=n_chunks)


def _retired(before: Manifest, after: Manifest, commit: int) -> tuple[Retired, ...]:
    """What readers of the last commits may still open."""
    recent = [retired for retired in before.retired if retired.commit > commit - KEPT_COMMITS]
    return (*recent, *(Retired(name=name, commit=commit) for name in sorted(before.names - after.names)))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
