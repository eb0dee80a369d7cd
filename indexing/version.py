"""Index versions: created empty, extended by commits that happen wholly or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np

from indexing.errors import IndexMissing
from indexing.files import FileRecord, checkpoint, publish_directory, records_of, sync, sync_directory
from indexing.locks import DirectoryLock, MergeLock
from indexing.manifest import (
    NAME,
    Manifest,
    Retired,
    SegmentRecord,
    VersionSpec,
    load_manifest,
    save_manifest,
)
from indexing.merge_plans import FULL_ROWS, plan_commit
from indexing.segments import Segment, SegmentRows, write_dead_rows, write_segment
from indexing.snapshot import Snapshot
from indexing.sparse_codes import SparseCodes
from indexing.sparse_postings import SparsePostings
from indexing.terms import TermTableBuilder
from indexing.token_codec import TokenCodec, codec_of
from indexing.token_codes import SpilledCodes, TokenCodes
from indexing.types import Floats, Ids
from indexing.vectors import Halves, Mask, Rows

CHECKPOINTS = (
    "segment-written",
    "segment-renamed",
    "dead-rows-written",
    "manifest-written",
    "manifest-renamed",
    "retired-removed",
)
"""Where `indexing.files.checkpoint` can kill a commit, in this order."""

FLUSH_ROWS = FULL_ROWS
"""A commit of more rows writes a segment for each so many."""
BLOCK_ROWS = 32_768
"""Rows whose terms are counted together: bounds the memory that takes."""
KEPT_COMMITS = 2
NODES_NAME = "nodes"
"""A directory beside the segments, of which a version knows nothing: the indexes of nodes (app.nodes)."""
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
        with Commit(self, self._snapshot, change) as commit:
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


class Commit:
    """What is to change. A chunk id stands for its content: what is there already is not written again.

    The order of calls is of no account: `replace_documents` concerns what was in the version before.
    """

    def __init__(self, writer: VersionWriter, base: Snapshot, change: int) -> None:
        self._writer = writer
        self._directory = writer.directory
        self._base = base
        self._change = change
        self._next_segment = base.manifest.next_segment
        self._pending = _Pending(self._directory)
        # Full segments are written while the caller goes on adding, one at a time.
        self._thread = ThreadPoolExecutor(1)
        self._flushes: list[Future[SegmentRecord]] = []
        self._flushed_ids: list[Ids] = []
        self._removed: list[Ids] = []
        self._added_to: list[Ids] = []
        n_segments = len(base.segments.segments)
        self._kept: list[list[Rows]] = [[] for _ in range(n_segments)]
        self._overwritten: list[list[Rows]] = [[] for _ in range(n_segments)]

    def __enter__(self) -> Commit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._pending.close()

    def replace_documents(self, document_ids: Ids) -> None:
        """Removes everything of these documents that is not added in this commit."""
        self._removed.append(np.asarray(document_ids, dtype=np.int64))

    def remove_chunks(self, chunk_ids: Ids) -> None:
        """Removes these chunks, none of which may be added in this commit; those not there are no error."""
        for number, segment in enumerate(self._base.segments.segments):
            rows = segment.find(np.asarray(chunk_ids, dtype=np.int64))
            self._overwritten[number].append(rows[rows >= 0])

    @property
    def spec(self) -> VersionSpec:
        """What the version is made with."""
        return self._base.manifest.spec

    def add(
        self,
        *,
        chunk_ids: Ids,
        document_ids: Ids,
        texts: Sequence[str],
        vectors: Floats,
        tokens: TokenCodes | None = None,
        sparse: SparseCodes | None = None,
    ) -> None:
        """Adds chunks: n ids, n document ids, n contextual texts, vectors of shape (n, dim), and the codes of
        the tokens and the sparse vectors of n chunks where the version keeps them.

        May be called many times with a few thousand chunks each; memory stays bounded. Raises ValueError if
        the lengths do not agree or a vector is not finite.
        """
        chunk_ids = np.asarray(chunk_ids, dtype=np.int64)
        document_ids = np.asarray(document_ids, dtype=np.int64)
        self._check(chunk_ids, document_ids, texts, vectors)
        self._check_tokens(len(chunk_ids), tokens)
        self._check_sparse(len(chunk_ids), sparse)
        halves = vectors.astype(np.float16)
        new = self._set_present_aside(chunk_ids, document_ids, halves)
        for flushed in self._flushed_ids:
            places = np.minimum(np.searchsorted(flushed, chunk_ids), len(flushed) - 1)
            new &= flushed[places] != chunk_ids
        new = self._pending.claim(chunk_ids, new)
        self._added_to.append(np.unique(document_ids[new]))
        self._pending.extend(
            chunk_ids[new],
            document_ids[new],
            halves[new],
            [texts[place] for place in np.flatnonzero(new).tolist()],
            None if tokens is None else tokens.take(np.flatnonzero(new)),
            None if sparse is None else sparse.take(np.flatnonzero(new)),
        )
        if len(self._pending) >= FLUSH_ROWS:
            self._flush()

    def finish(self) -> None:
        manifest = self._base.manifest
        gone = self._newly_dead()
        if self._pending or self._flushes or any(map(len, gone)):
            segments = self._arrange(gone)
            manifest = replace(
                manifest,
                segments=segments,
                next_segment=self._next_segment,
                n_chunks=sum(segment.n_live for segment in segments),
                n_documents=manifest.n_documents + self._more_documents(gone),
            )
        elif self._change <= manifest.change:
            return
        self._writer.publish(replace(manifest, change=max(self._change, manifest.change)))

    def _check(self, chunk_ids: Ids, document_ids: Ids, texts: Sequence[str], vectors: Floats) -> None:
        n_chunks, dim = len(chunk_ids), self._base.manifest.spec.dim
        if len(document_ids) != n_chunks or len(texts) != n_chunks or vectors.shape != (n_chunks, dim):
            raise ValueError(
                f"{n_chunks} chunk ids, {len(document_ids)} document ids, {len(texts)} texts and vectors of "
                f"shape {vectors.shape} do not go together; the dimension is {dim}."
            )
        if not np.isfinite(vectors).all():
            raise ValueError("A vector has an element that is not a finite number.")

    def _check_tokens(self, n_chunks: int, tokens: TokenCodes | None) -> None:
        given = None if tokens is None else (len(tokens), tokens.codes.shape[1])
        wanted = (n_chunks, self.spec.token_bytes) if self.spec.token_bytes else None
        if given != wanted:
            raise ValueError(
                f"The codes of tokens do not suit the version: (chunks, bytes) are {given}, not {wanted}."
            )

    def _check_sparse(self, n_chunks: int, sparse: SparseCodes | None) -> None:
        given, wanted = None if sparse is None else len(sparse), n_chunks
        if given != (None if self.spec.sparse_fingerprint is None else wanted):
            raise ValueError(f"Sparse vectors do not suit the version: {given} for {n_chunks} chunks.")

    def _set_present_aside(self, chunk_ids: Ids, document_ids: Ids, halves: Halves) -> Mask:
        """Which chunks are new; of the others, the equal ones are kept and the changed ones overwritten."""
        new = np.ones(len(chunk_ids), dtype=np.bool_)
        for number, segment in enumerate(self._base.segments.segments):
            rows = segment.find(chunk_ids)
            positions = np.flatnonzero(rows >= 0)
            rows = rows[positions]
            same = (segment.document_ids_of(rows) == document_ids[positions]) & (
                segment.vectors.halves[rows] == halves[positions]
            ).all(axis=1)
            new[positions[same]] = False
            self._kept[number].append(rows[same])
            self._overwritten[number].append(rows[~same])
        return new

    def _flush(self) -> None:
        """Hands the pending rows to the thread that writes them."""
        blocks = self._pending.blocks()
        self._pending = _Pending(self._directory)
        self._flushed_ids.append(np.sort(np.concatenate([block.chunk_ids for block in blocks])))
        if self._flushes:
            self._flushes[-1].result()
        parts = [(block, np.arange(len(block))) for block in blocks]
        self._flushes.append(self._thread.submit(self._write, self._next_name(), parts))

    def _newly_dead(self) -> list[Rows]:
        """The rows of every base segment that die by this commit, sorted."""
        none = np.empty(0, dtype=np.int64)
        removed = np.unique(np.concatenate([none, *self._removed]))
        dead = []
        for segment, kept, overwritten in zip(
            self._base.segments.segments, self._kept, self._overwritten, strict=True
        ):
            replaced = np.unique(np.concatenate([none, *overwritten]))
            gone = np.setdiff1d(segment.rows_of_documents(removed), np.concatenate([none, *kept]))
            dead.append(np.union1d(replaced, gone))
        return dead

    def _more_documents(self, gone: list[Rows]) -> int:
        """By how many documents the version grows; looks at nothing but the documents that are touched."""
        segments = self._base.segments.segments
        touched = [*self._removed, *self._added_to]
        touched += [segment.document_ids_of(rows) for segment, rows in zip(segments, gone, strict=True)]
        documents = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *touched]))
        before, after = np.zeros((2, len(documents)), dtype=np.bool_)
        for segment, dead in zip(segments, gone, strict=True):
            rows = segment.rows_of_documents(documents)
            before[np.searchsorted(documents, segment.document_ids_of(rows))] = True
            left = np.setdiff1d(rows, dead)
            after[np.searchsorted(documents, segment.document_ids_of(left))] = True
        for added in self._added_to:
            after[np.searchsorted(documents, added)] = True
        return int(after.sum()) - int(before.sum())

    def _arrange(self, gone: list[Rows]) -> tuple[SegmentRecord, ...]:
        """The segments of the new state: the small ones written anew with the new rows, the others kept."""
        segments = self._base.segments.segments
        n_live = [segment.n_live - len(rows) for segment, rows in zip(segments, gone, strict=True)]
        blocks = self._pending.blocks()
        n_new = sum(len(block) for block in blocks)
        taken = plan_commit(n_live, [len(segment) for segment in segments], n_new)
        parts = [(block, np.arange(len(block))) for block in blocks]
        for number in taken:
            if n_live[number]:
                parts.append(
                    (segments[number].columns(), np.setdiff1d(segments[number].live_rows, gone[number]))
                )
        written = [self._write(self._next_name(), parts)] if parts else []
        left = [
            self._with_dead(segment, rows) if len(rows) else segment.record
            for number, (segment, rows) in enumerate(zip(segments, gone, strict=True))
            if number not in taken and n_live[number]
        ]
        return (*left, *(flush.result() for flush in self._flushes), *written)

    def _next_name(self) -> str:
        self._next_segment += 1
        return f"segment-{self._next_segment - 1:08d}"

    def _write(self, name: str, parts: Sequence[tuple[SegmentRows, Rows]]) -> SegmentRecord:
        codec = codec_of(self.spec)
        record = write_working(self._directory / f"{name}.new", name, parts, codec=codec)
        checkpoint("segment-written")
        publish_directory(self._directory / f"{name}.new", self._directory / name)
        checkpoint("segment-renamed")
        return record

    def _with_dead(self, segment: Segment, gone: Rows) -> SegmentRecord:
        was_dead = np.empty(0, dtype=np.int64) if segment.live is None else np.flatnonzero(~segment.live)
        n_tokens = segment.n_tokens - int(segment.terms.lengths[gone].sum(dtype=np.int64))
        record = replace(segment.record, n_tokens=n_tokens)
        commit = self._base.manifest.commit + 1
        return with_dead_rows(self._directory, record, np.union1d(was_dead, gone), commit)


def write_working(
    working: Path,
    name: str,
    parts: Sequence[tuple[SegmentRows, Rows]],
    pause: Callable[[], None] = lambda: None,
    codec: TokenCodec | None = None,
) -> SegmentRecord:
    """Writes a segment into a working directory, on disk when done, that is to be renamed to `name`."""
    working.mkdir()
    written = write_segment(working, parts, pause, codec)
    sync_directory(working)
    return SegmentRecord(
        name=name,
        n_rows=sum(len(rows) for _, rows in parts),
        n_tokens=written.n_tokens,
        kind=written.kind,
        files=records_of(working, name),
    )


def with_dead_rows(directory: Path, record: SegmentRecord, dead: Rows, commit: int) -> SegmentRecord:
    """The record with these dead rows, after they have been written; `commit` numbers their file."""
    path = directory / f"{record.name}.dead-{commit:08d}"
    write_dead_rows(path, record.n_rows, dead)
    sync(path)
    sync(directory)
    checkpoint("dead-rows-written")
    return replace(record, n_dead=len(dead), dead=FileRecord.of(path, path.name))


class _Pending:
    """Rows not yet written, in blocks; the codes of their tokens wait in files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tokens: SpilledCodes | None = None
        self._blocks: list[SegmentRows] = []
        self._ids: set[int] = set()
        self._begin_block()

    def __len__(self) -> int:
        return len(self._ids)

    def claim(self, chunk_ids: Ids, wanted: Mask) -> Mask:
        """Which of the wanted chunks are not pending yet; those are, from now on."""
        new = wanted.copy()
        for position in np.flatnonzero(wanted).tolist():
            chunk_id = int(chunk_ids[position])
            new[position] = chunk_id not in self._ids
            self._ids.add(chunk_id)
        return new

    def extend(
        self,
        chunk_ids: Ids,
        document_ids: Ids,
        vectors: Halves,
        texts: Sequence[str],
        tokens: TokenCodes | None,
        sparse: SparseCodes | None,
    ) -> None:
        self._chunk_ids.append(chunk_ids)
        self._document_ids.append(document_ids)
        self._vectors.append(vectors)
        for text in texts:
            self._terms.add(text)
        if tokens is not None:
            if self._tokens is None:
                self._tokens = SpilledCodes(self._directory, tokens.codes.shape[1])
            self._tokens.add(tokens)
        if sparse is not None:
            self._sparse.append(sparse)
        if len(self._terms) >= BLOCK_ROWS:
            self._end_block()

    def blocks(self) -> list[SegmentRows]:
        if len(self._terms):
            self._end_block()
        return self._blocks

    def close(self) -> None:
        """Lets go of rows that no one is going to write."""
        if self._tokens is not None:
            self._tokens.close()

    def _begin_block(self) -> None:
        self._chunk_ids: list[Ids] = []
        self._document_ids: list[Ids] = []
        self._vectors: list[Halves] = []
        self._terms = TermTableBuilder()
        self._tokens = None
        self._sparse: list[SparseCodes] = []

    def _end_block(self) -> None:
        self._blocks.append(
            SegmentRows(
                chunk_ids=np.concatenate(self._chunk_ids),
                document_ids=np.concatenate(self._document_ids),
                vectors=np.concatenate(self._vectors),
                terms=self._terms.build(),
                tokens=None if self._tokens is None else self._tokens.read(),
                sparse=SparsePostings.of(SparseCodes.chained(self._sparse)) if self._sparse else None,
            )
        )
        self._begin_block()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
