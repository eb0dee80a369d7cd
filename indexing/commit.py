"""One change of an index version: chunks set aside, added and removed, then arranged in segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from indexing.files import checkpoint, publish_directory
from indexing.manifest import Manifest, SegmentRecord, VersionSpec
from indexing.merge_plans import FULL_ROWS, plan_commit
from indexing.pending import PendingRows
from indexing.segment_files import with_dead_rows, write_working
from indexing.segments import Segment, SegmentRows
from indexing.snapshot import Snapshot
from indexing.sparse_codes import SparseCodes
from indexing.token_codec import codec_of
from indexing.token_codes import TokenCodes
from indexing.types import Floats, Ids
from indexing.vectors import Halves, Mask, Rows

FLUSH_ROWS = FULL_ROWS
"""A commit of more rows writes a segment for each so many."""


class Commit:
    """What is to change. A chunk id stands for its content: what is there already is not written again.

    The order of calls is of no account: `replace_documents` concerns what was in the version before.
    """

    def __init__(
        self, directory: Path, base: Snapshot, change: int, publish: Callable[[Manifest], Manifest]
    ) -> None:
        """`base` is the state before, and `publish` makes a manifest the state of the version."""
        self._directory = directory
        self._base = base
        self._publish = publish
        self._change = change
        self._next_segment = base.manifest.next_segment
        self._pending = PendingRows(self._directory)
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
        self._publish(replace(manifest, change=max(self._change, manifest.change)))

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
        self._pending = PendingRows(self._directory)
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
