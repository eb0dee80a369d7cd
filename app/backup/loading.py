"""Reading a backup into tables that nobody sees yet. Everything is checked on the way.

The rows go into a database at the backup's own schema revision, which the migrations make; then the
migrations bring tables and rows to the present one together. So an old backup is read as an old database is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

from sqlalchemy import JSON, Connection, MetaData, Table, func, select, text
from sqlalchemy.exc import DataError, IntegrityError, StatementError

from app.backup.archive import Input, Member, members, unpacked
from app.backup.errors import ArchiveDamaged, ArchiveNewer, ArchiveUnknown
from app.backup.manifest import HEADER, MANIFEST, MAX_BYTES, Header, Manifest
from app.backup.rows import RowReader
from app.db import migration
from app.db.errors import SchemaUnknown
from indexing.files import checkpoint

MAX_PART_BYTES = 1024**3
"""A part of a table is read into memory; a row of this size is beyond what PostgreSQL keeps."""
ROWS_AN_INSERT = 1000

_TABLE = re.compile(r"tables/([a-z_]+)/([0-9]{6,})\.(bin|jsonl|jsonl\.gz)")
_FILE = re.compile(r"files/([0-9a-f]{2})/(\1[0-9a-f]{62})(\.gz)?")
_HASH = re.compile(r"[0-9a-f]{64}")


class Files(Protocol):
    """Where the files of a backup go."""

    def add(self, content_hash: str, pieces: Iterator[bytes]) -> None:
        """Keeps a file for later; what has not been checked yet is not served."""


@dataclass(frozen=True, slots=True)
class NoFiles:
    """For a backup that is only looked at."""

    def add(self, content_hash: str, pieces: Iterator[bytes]) -> None:  # noqa: ARG002
        for _ in pieces:
            pass


@dataclass(frozen=True, slots=True)
class Archive:
    """A backup whose first member was read."""

    header: Header
    rest: Iterator[Member]


def open_archive(source: Input) -> Archive:
    """Raises ArchiveUnknown where this is no backup, ArchiveNewer where it is too new for this program."""
    rest = members(source)
    try:
        first = next(rest)
    except ArchiveDamaged as error:
        raise ArchiveUnknown(f"this is no backup of Footnote: {error}") from error
    if first.name != HEADER:
        raise ArchiveUnknown(f"this is no backup of Footnote: it begins with {first.name}, not {HEADER}")
    return Archive(Header.from_bytes(first.read_all(MAX_BYTES)), rest)


def load(archive: Archive, connection: Connection, files: Files) -> Manifest:
    """Fills an empty database within the caller's transaction; at the end it is at the present schema.

    Raises ArchiveDamaged for anything that is not as it was written, ArchiveNewer for a schema that this
    program does not know. Then the caller must drop what was filled.
    """
    try:
        migration.upgrade_within(connection, archive.header.schema)
    except SchemaUnknown as error:
        raise ArchiveNewer(
            f"the backup has the schema {archive.header.schema}, made by Footnote {archive.header.footnote}, "
            "which this program does not know"
        ) from error
    loading = _Loading(connection, archive.header, _reflected(connection), files)
    for member in archive.rest:
        loading.take(member)
    manifest = loading.checked_manifest()
    _check_references(connection)
    migration.upgrade_within(connection)
    return manifest


def _reflected(connection: Connection) -> dict[str, Table]:
    """The tables as the database has them, which may be older than those of this program."""
    metadata = MetaData()
    metadata.reflect(connection)
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, JSON):
                column.type = JSON(none_as_null=bool(column.nullable))
    return {name: table for name, table in metadata.tables.items() if name != "alembic_version"}


def _check_references(connection: Connection) -> None:
    """PostgreSQL has checked each row; SQLite, with foreign keys off, checks all of them here."""
    if connection.dialect.name == "sqlite":
        orphan = connection.execute(text("PRAGMA foreign_key_check")).first()
        if orphan is not None:
            raise ArchiveDamaged(f"a row of `{orphan[0]}` belongs to a row of `{orphan[2]}` that is missing")


@dataclass(slots=True)
class _Loading:
    """Takes one member after another, in the order in which a backup has them."""

    connection: Connection
    header: Header
    tables: Mapping[str, Table]
    files: Files
    counts: dict[str, int] = field(default_factory=dict)
    manifest: Manifest | None = None
    n_files: int = 0
    n_file_bytes: int = 0
    _last_file: str = ""
    _table: str = ""
    _next_part: int = 0
    _binary: bytes | None = None

    def take(self, member: Member) -> None:
        """Raises ArchiveDamaged where the member is not one that may come now."""
        take: Callable[[Member, re.Match[str]], None]
        if self.manifest is not None:
            raise ArchiveDamaged(f"{member.name} stands after {MANIFEST}")
        if member.name == MANIFEST:
            self.manifest = Manifest.from_bytes(member.read_all(MAX_BYTES))
            return
        if found := _TABLE.fullmatch(member.name):
            take = self._take_rows
        elif found := _FILE.fullmatch(member.name):
            take = self._take_file
        else:
            raise ArchiveDamaged(f"no backup has a file named {member.name}")
        if self._binary is not None and not member.name.startswith(f"tables/{self._table}/"):
            raise ArchiveDamaged(f"{member.name} stands where rows of `{self._table}` were to come")
        take(member, found)

    def _take_rows(self, member: Member, found: re.Match[str]) -> None:
        name, number, form = found[1], int(found[2]), found[3]
        self._begin_table(name)
        if number != self._next_part or found[2] != f"{number:06}" or self.n_files:
            raise ArchiveDamaged(f"{member.name} is not in its place")
        if form == "bin":
            if self._binary is not None:
                raise ArchiveDamaged(f"{member.name} is there twice")
            self._binary = member.read_all(MAX_PART_BYTES)
            return
        lines = member.read_all(MAX_PART_BYTES) if form == "jsonl" else _joined(member)
        reader = RowReader(self.tables[name], naive_instants=self.connection.dialect.name == "sqlite")
        rows = reader.read(member.name, lines, self._binary or b"")
        self._insert(member.name, self.tables[name], rows)
        self._binary = None
        self._next_part += 1
        self.counts[name] += len(rows)
        checkpoint("restore-rows")

    def _begin_table(self, name: str) -> None:
        if name == self._table:
            return
        if name not in self.tables:
            raise ArchiveDamaged(f"the schema {self.header.schema} has no table `{name}`")
        if name in self.counts:
            raise ArchiveDamaged(f"the rows of `{name}` stand in two places")
        self._table, self._next_part, self.counts[name] = name, 0, 0

    def _insert(self, name: str, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        for row in rows:
            if not _HASH.fullmatch(row.get("content_hash") or "0" * 64):
                raise ArchiveDamaged(f"{name}: a hash is not one")  # it would become a path
        try:
            for start in range(0, len(rows), ROWS_AN_INSERT):
                self.connection.execute(table.insert(), rows[start : start + ROWS_AN_INSERT])
        except (IntegrityError, DataError) as error:
            raise ArchiveDamaged(f"{name}: the database refuses a row: {error.orig}") from error
        except StatementError as error:
            if error.orig is None or isinstance(error.orig, ValueError | OverflowError):
                raise ArchiveDamaged(f"{name}: a row cannot be kept: {error.orig}") from error
            raise

    def _take_file(self, member: Member, found: re.Match[str]) -> None:
        content_hash = found[2]
        if content_hash <= self._last_file:
            raise ArchiveDamaged(f"{member.name} is there twice, or not in its place")
        self._last_file = content_hash
        size = self._size_of(content_hash)
        if size is None:
            raise ArchiveDamaged(f"{member.name} belongs to no document")
        pieces = unpacked(member) if found[3] else iter(member.read, b"")
        self.files.add(content_hash, _verified(member.name, pieces, content_hash, size))
        self.n_files += 1
        self.n_file_bytes += size
        checkpoint("restore-files")

    def _size_of(self, content_hash: str) -> int | None:
        """The bytes of the file that a document names; None where none does."""
        revisions = self.tables["revisions"].columns
        statement = select(revisions["n_bytes"]).where(
            revisions["content_hash"] == content_hash, revisions["status"] != "superseded"
        )
        size: int | None = self.connection.execute(statement.limit(1)).scalar_one_or_none()
        return size

    def checked_manifest(self) -> Manifest:
        """What the backup says it holds; raises ArchiveDamaged where it holds something else."""
        manifest = self.manifest
        if manifest is None:
            raise ArchiveDamaged(f"the backup has no {MANIFEST}")
        if manifest.header != self.header:
            raise ArchiveDamaged(f"{HEADER} and {MANIFEST} differ")
        if manifest.tables.keys() ^ self.tables.keys() != set(manifest.left_out):
            raise ArchiveDamaged(f"the tables are not those of the schema {self.header.schema}")
        for name, n_rows in manifest.tables.items():
            if self.counts.get(name, 0) != n_rows:
                found = self.counts.get(name, 0)
                raise ArchiveDamaged(f"`{name}` has {found} rows where {n_rows} were written")
        if (self.n_files, self.n_file_bytes) != (manifest.n_files, manifest.file_bytes):
            raise ArchiveDamaged(f"there are {self.n_files} files where {manifest.n_files} were written")
        self._check_files_named(set(manifest.missing_files))
        return manifest

    def _check_files_named(self, missing: set[str]) -> None:
        """Every file that a document names is there, or said to have been missing already."""
        revisions = self.tables["revisions"].columns
        statement = select(func.count(revisions["content_hash"].distinct())).where(
            revisions["status"] != "superseded"
        )
        n_named = self.connection.execute(statement).scalar_one()
        # Each file that was taken is named and another one, so the numbers agree only if the sets do.
        if n_named != self.n_files + sum(self._size_of(content_hash) is not None for content_hash in missing):
            raise ArchiveDamaged(f"documents name {n_named} files, of which some are missing")


def _joined(member: Member) -> bytes:
    parts, n_bytes = [], 0
    for piece in unpacked(member):
        n_bytes += len(piece)
        if n_bytes > MAX_PART_BYTES:
            raise ArchiveDamaged(f"{member.name} is larger than any backup writes")
        parts.append(piece)
    return b"".join(parts)


def _verified(name: str, pieces: Iterator[bytes], content_hash: str, size: int) -> Iterator[bytes]:
    """The pieces; raises ArchiveDamaged where they are not the file of that hash and size."""
    digest, n_bytes = sha256(), 0
    for piece in pieces:
        n_bytes += len(piece)
        if n_bytes > size:
            break
        digest.update(piece)
        yield piece
    if n_bytes != size or digest.hexdigest() != content_hash:
        raise ArchiveDamaged(f"{name} is not the file that it is named after")
