"""Merges of segments behind the back of the writer: commits go on meanwhile.

A merge reads the segments of a snapshot and writes the new one into a working directory, which takes its
time and holds up no one. Then, under the lock of the writer, it looks at what has changed: rows that died
meanwhile are dead in the new segment too, and if a segment is no longer there the work was for nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexing.files import checkpoint, publish_directory
from indexing.locks import MergeLock
from indexing.manifest import Manifest, SegmentRecord, load_manifest
from indexing.merge_plans import plan_merges
from indexing.segment_files import with_dead_rows, write_working
from indexing.segments import Segment
from indexing.snapshot import Snapshot
from indexing.token_codec import TokenCodec, codec_of
from indexing.types import Ids
from indexing.version import MERGE_NAME, VersionWriter

MERGE_CHECKPOINTS = (
    "merge-begun",
    "merge-written",
    "merge-renamed",
    "dead-rows-written",
    "manifest-written",
    "manifest-renamed",
    "retired-removed",
)
"""Where `indexing.files.checkpoint` can kill a merge, in this order; the fourth where rows died meanwhile."""

_WAIT_SECONDS = 0.5


class _Stopped(Exception):
    pass


def merge_due(manifest: Manifest) -> bool:
    """Whether `merge_version` has something to do; looks at nothing but the manifest."""
    return bool(plan_merges(manifest.segments))


def merge_version(directory: Path, *, purge: bool = False, stop: Callable[[], bool] = lambda: False) -> bool:
    """Writes segments anew that are small beside others or have many dead rows; True if any was.

    Commits go on meanwhile. With `purge` every segment with a dead row is written anew, and what readers of
    earlier commits might still open is removed at once: no byte of a chunk that was deleted before the call
    stays in the directory. `stop` is asked now and then; once it says True the work in hand is dropped.
    Another merge of the same version that is under way is waited for.
    """
    load_manifest(directory)
    lock = MergeLock(directory)
    while True:
        try:
            lock.acquire(_WAIT_SECONDS)
            break
        except TimeoutError:
            if stop():
                return False
    try:
        return _Merger(directory, purge, stop).run()
    except _Stopped:
        return False
    finally:
        shutil.rmtree(directory / MERGE_NAME, ignore_errors=True)
        lock.release()


class _Merger:
    """Holds the merge lock."""

    def __init__(self, directory: Path, purge: bool, stop: Callable[[], bool]) -> None:
        self._directory = directory
        self._working = directory / MERGE_NAME
        self._purge = purge
        self._stop = stop
        # What dies from now on is for another purge; else this one might never end.
        segments = load_manifest(directory).segments if purge else ()
        self._unclean = frozenset(segment.name for segment in segments if segment.n_dead)

    def run(self) -> bool:
        """One merge after another, while there is one to do."""
        n_done = 0
        while True:
            self._pause()
            with Snapshot.open(self._directory) as snapshot:
                groups = plan_merges(snapshot.manifest.segments, self._unclean)
                if not groups:
                    break
                codec = codec_of(snapshot.manifest.spec)
                n_done += self._merge([snapshot.segments.segments[number] for number in groups[0]], codec)
        if self._purge:
            n_done += self._forget_retired()
        return n_done > 0

    def _merge(self, sources: Sequence[Segment], codec: TokenCodec | None) -> bool:
        """Whether one segment took the place of these; not if a commit has done away with one meanwhile."""
        shutil.rmtree(self._working, ignore_errors=True)
        parts = [(source.columns(), source.live_rows) for source in sources if source.n_live]
        checkpoint("merge-begun")
        record = write_working(self._working, MERGE_NAME, parts, self._pause, codec) if parts else None
        checkpoint("merge-written")
        with VersionWriter(self._directory) as writer:
            return self._publish(writer, sources, record)

    def _publish(
        self, writer: VersionWriter, sources: Sequence[Segment], written: SegmentRecord | None
    ) -> bool:
        manifest = writer.manifest
        present = {segment.name: segment for segment in manifest.segments}
        if any(source.name not in present for source in sources):
            return False
        names = {source.name for source in sources}
        segments = [segment for segment in manifest.segments if segment.name not in names]
        if written is not None:
            died = [_died_since(self._directory, source, present[source.name]) for source in sources]
            segments.append(self._renamed(written, manifest, np.concatenate(died)))
        after = replace(manifest, segments=tuple(segments), next_segment=manifest.next_segment + 1)
        writer.publish(after, keep=not self._purge)
        return True

    def _renamed(self, written: SegmentRecord, manifest: Manifest, died: Ids) -> SegmentRecord:
        """The written segment under its final name, without the chunks that died since it was begun."""
        name = f"segment-{manifest.next_segment:08d}"
        publish_directory(self._working, self._directory / name)
        checkpoint("merge-renamed")
        files = tuple(replace(file, name=f"{name}/{Path(file.name).name}") for file in written.files)
        record = replace(written, name=name, files=files)
        if not len(died):
            return record
        with Snapshot(self._directory, replace(manifest, segments=(record,))) as snapshot:
            (segment,) = snapshot.segments.segments
            rows = np.sort(segment.find(died))
            n_tokens = record.n_tokens - int(segment.terms.lengths[rows].sum(dtype=np.int64))
        record = replace(record, n_tokens=n_tokens)
        return with_dead_rows(self._directory, record, rows, manifest.commit + 1)

    def _forget_retired(self) -> int:
        """Removes what readers of earlier commits might still open; how much that was."""
        with VersionWriter(self._directory) as writer:
            manifest = writer.manifest
            if manifest.retired:
                writer.publish(manifest, keep=False)
            return len(manifest.retired)

    def _pause(self) -> None:
        if self._stop():
            raise _Stopped


def _died_since(directory: Path, source: Segment, record: SegmentRecord) -> Ids:
    """The chunks that are live in the source and not in its present record."""
    now = Segment(directory, record, source.files).live
    if now is None:
        return np.empty(0, dtype=np.int64)
    before = np.ones(len(source), dtype=np.bool_) if source.live is None else source.live
    return source.chunk_ids[before & ~now]
