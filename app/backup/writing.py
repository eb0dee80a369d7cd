"""Writing a backup: one snapshot of the database, then the files it names, then what the whole must be."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from gzip import GzipFile
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, BinaryIO
from uuid import uuid4

from sqlalchemy import Table, func, select

from app.backup.archive import IN_MEMORY, PIECE, ArchiveWriter, Output, Totals, packed, pays
from app.backup.errors import ArchiveExists
from app.backup.links import KeptFiles, kept_files, sweep
from app.backup.manifest import FORMAT, HEADER, LEFT_OUT, MANIFEST, Header, IndexSpec, Manifest
from app.backup.rows import write_parts
from app.db import migration
from app.db.tables import Base, CollectionRow, IndexVersionRow
from app.db.types import utc_now
from indexing.files import checkpoint, sync

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services

Say = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

ROWS_A_FETCH = {"revisions": 8}
"""Where rows are large, since a row can hold the text of a book; elsewhere 500."""

_GZIP_LEVEL = 3
_PROBE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was written."""

    manifest: Manifest
    totals: Totals
    seconds: float


def back_up(services: Services, path: Path, *, force: bool = False, say: Say) -> Backup:
    """Writes a backup to a file, which gets its name when it is complete. The service may go on working.

    Raises ArchiveExists where there is such a file and it is not to be replaced, or where another process
    is writing it.
    """
    if path.is_dir() or (path.exists() and not force):
        raise ArchiveExists(f"{path} exists; choose another name, or replace it with --force")
    with _written_beside(path) as (out, beside):
        done = write_backup(services, out, say)
        out.flush()
        os.fsync(out.fileno())
        checkpoint("backup-written")
        if path.exists() and not force:
            raise ArchiveExists(f"{path} was made meanwhile")
        beside.rename(path)
        checkpoint("backup-renamed")
        sync(path.parent)
    return done


@contextmanager
def _written_beside(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A file for the owner alone beside `path`; removed at the end, unless it was renamed.

    A killed process leaves it; the next one takes it over.
    """
    beside = path.with_name(path.name + ".part")
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveExists(f"another process is writing {path}") from None
        if not _is_at(out, beside):
            raise ArchiveExists(f"another process has just written {path}")
        os.fchmod(out.fileno(), 0o600)
        out.truncate()
        try:
            yield out, beside
        finally:
            if _is_at(out, beside):
                beside.unlink()


def _is_at(out: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(out.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_backup(services: Services, out: Output, say: Say) -> Backup:
    """Writes a backup to a stream."""
    started = time.perf_counter()
    sweep(services.store)
    now = utc_now()
    with (
        services.read() as session,
        kept_files(services.store, session) as kept,
        ArchiveWriter(out, mtime=int(now.timestamp())) as writer,
    ):
        header = _header(services, now)
        writer.add(HEADER, header.to_bytes())
        tables = _write_tables(session, writer, say)
        n_files, file_bytes, damaged = _write_files(writer, kept, say)
        manifest = Manifest(
            header=header,
            tables=tables,
            left_out=LEFT_OUT,
            n_files=n_files,
            file_bytes=file_bytes,
            missing_files=tuple(sorted((*kept.missing, *damaged))),
            indexes=_served(session),
        )
        writer.add(MANIFEST, manifest.to_bytes())
        totals = writer.close()
    return Backup(manifest=manifest, totals=totals, seconds=time.perf_counter() - started)


def _header(services: Services, now: datetime) -> Header:
    return Header(
        id=uuid4().hex,
        format=FORMAT,
        footnote=version("footnote"),
        schema=migration.head(),
        database=services.engine.dialect.name,
        created_at=now.isoformat(),
    )


def tables() -> list[Table]:
    """The tables of a backup, each after those that it points at."""
    return [table for table in Base.metadata.sorted_tables if table.name not in LEFT_OUT]


def _write_tables(session: Session, writer: ArchiveWriter, say: Say) -> dict[str, int]:
    """Gives the number of rows of each table."""
    wanted = {
        table.name: session.execute(select(func.count()).select_from(table)).scalar_one()
        for table in tables()
    }
    done, total = 0, sum(wanted.values())
    for table in tables():
        statement = select(table).order_by(*table.primary_key.columns)
        rows = session.execute(statement.execution_options(yield_per=ROWS_A_FETCH.get(table.name, 500)))
        for number, part in enumerate(write_parts(table, rows)):
            name = f"tables/{table.name}/{number:06}"
            if part.binary:
                writer.add(f"{name}.bin", part.binary)
            lines = packed(part.lines)
            writer.add(*((f"{name}.jsonl", part.lines) if lines is None else (f"{name}.jsonl.gz", lines)))
            done += part.n_rows
            say("rows", done, total)
            checkpoint("backup-rows")
    return wanted


def _write_files(writer: ArchiveWriter, kept: KeptFiles, say: Say) -> tuple[int, int, list[str]]:
    """Gives how many files and bytes were written, and the hashes of those that are not what they were."""
    n_files, n_bytes, damaged = 0, 0, []
    for path in kept.paths():
        size = _write_file(writer, path, kept.folder)
        if size is None:
            damaged.append(path.name)
        else:
            n_files, n_bytes = n_files + 1, n_bytes + size
        say("files", n_files + len(damaged), kept.n_files)
        checkpoint("backup-files")
    return n_files, n_bytes, damaged


def _write_file(writer: ArchiveWriter, path: Path, folder: Path) -> int | None:
    """The file as it is, or packed where that pays; gives its size, None for one that is damaged."""
    name = f"files/{path.name[:2]}/{path.name}"
    with path.open("rb") as source, SpooledTemporaryFile(IN_MEMORY, dir=str(folder)) as small:
        try_packing = packed(source.read(_PROBE_BYTES)) is not None
        source.seek(0)
        digest, size = sha256(), 0
        with GzipFile(fileobj=small, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0, filename="") as gzip:
            while piece := source.read(PIECE):
                digest.update(piece)
                size += len(piece)
                if try_packing:
                    gzip.write(piece)
        if digest.hexdigest() != path.name:
            return None
        if try_packing and pays(size, small.tell()):
            n_packed = small.tell()
            small.seek(0)
            writer.add_stream(f"{name}.gz", small, n_packed)
        else:
            source.seek(0)
            writer.add_stream(name, source, size)
    return size


def _served(session: Session) -> tuple[IndexSpec, ...]:
    rows = session.execute(
        select(CollectionRow.name, IndexVersionRow)
        .join(IndexVersionRow, CollectionRow.active_version_id == IndexVersionRow.id)
        .order_by(CollectionRow.name)
    )
    return tuple(
        IndexSpec(
            collection=name,
            version=row.id,
            encoder=row.encoder_name,
            encoder_fingerprint=row.encoder_fingerprint,
            encoder_spec=row.encoder_spec,
            chunker_fingerprint=row.chunker_fingerprint,
            chunker_spec=row.chunker_spec,
            dim=row.dim,
            n_documents=row.n_documents,
            n_chunks=row.n_chunks,
        )
        for name, row in rows
    )
