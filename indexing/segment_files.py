"""Segments and dead rows on their way to disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from indexing.files import FileRecord, checkpoint, records_of, sync, sync_directory
from indexing.manifest import SegmentRecord
from indexing.segments import SegmentRows, write_dead_rows, write_segment
from indexing.token_codec import TokenCodec
from indexing.vectors import Rows


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
