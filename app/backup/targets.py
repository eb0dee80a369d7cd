"""The databases that a backup is restored into: filled where nobody looks, then switched in one step.

SQLite: another file beside the database, renamed. PostgreSQL: another schema, made, filled and moved in one
transaction. Either way a process that is killed leaves the database as it was.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, inspect, make_url, text

from app.backup.errors import TargetInUse, TargetNotEmpty
from app.backup.manifest import LEFT_OUT
from app.db import migration
from app.db.engine import create_engine
from app.db.errors import SchemaMissing
from app.db.tables import Base
from indexing.files import sync

STAGING = "footnote_restoring"
ADVICE = "stop `footnote serve` and `footnote worker`, then restore again"
NOT_EMPTY = (
    "the database has data; `--replace` puts the backup in its place and keeps what is there as another"
)

# Any number that no other program on the same PostgreSQL database locks.
_RESTORE_LOCK = 2_946_118_340_775_631
_BUSY_SECONDS = 1.0
_BESIDE = ".restoring"


class Staged(Protocol):
    """Tables to be filled through the connection, within its transaction."""

    @property
    def connection(self) -> Connection: ...

    @property
    def identity(self) -> str:
        """What the target's `identity` will be after the switch, and never was before."""

    def switch(self, *, replace: bool) -> None:
        """Puts the tables in the place of the present ones, for good, in one step.

        Raises TargetInUse, and TargetNotEmpty where there are rows that are not to be replaced.
        """


class Target(Protocol):
    """A database that may be there already."""

    def is_empty(self) -> bool:
        """Whether no document, job or collection of a user is there.

        Raises TargetInUse, and SchemaError where the tables are not those of this program.
        """

    def identity(self) -> str:
        """What tells these tables from those before a switch."""

    def staging(self) -> AbstractContextManager[Staged]:
        """Empty tables beside the present ones; without a switch nothing of them remains."""


@dataclass(frozen=True, slots=True)
class SqliteTarget:
    """A database file."""

    path: Path

    def is_empty(self) -> bool:
        if not self.path.exists():
            return True
        with _alone(self.path):
            pass
        engine = create_engine(_url(self.path))
        try:
            return _is_empty(engine)
        finally:
            engine.dispose()

    def identity(self) -> str:
        return _inode(self.path) if self.path.exists() else ""

    @contextmanager
    def staging(self) -> Iterator[Staged]:
        with sqlite_staging(self.path.with_name(self.path.name + _BESIDE)) as connection:
            yield _SqliteStaged(connection, self.path)


@contextmanager
def sqlite_staging(path: Path) -> Iterator[Connection]:
    """A transaction on a new database file, which is removed at the end unless it was renamed."""
    _remove(path)
    engine = create_engine(_url(path))
    try:
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            # Nobody waits for this file, and a crash only means to begin again.
            for pragma in (
                "journal_mode = OFF",
                "synchronous = OFF",
                "foreign_keys = OFF",
                "cache_size = -65536",
            ):
                raw.execute(f"PRAGMA {pragma}").fetchall()
            connection.begin()
            yield connection
    finally:
        engine.dispose()
        _remove(path)


@dataclass(frozen=True, slots=True)
class _SqliteStaged:
    connection: Connection
    path: Path

    @property
    def identity(self) -> str:
        return _inode(self._beside)

    @property
    def _beside(self) -> Path:
        return Path(str(self.connection.engine.url.database))

    def switch(self, *, replace: bool) -> None:
        self.connection.commit()
        raw = self.connection.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA journal_mode = DELETE").fetchall()
        self.connection.close()
        self.connection.engine.dispose()
        sync(self._beside)
        with _alone(self.path) as present:
            if present is not None and not replace and not _has_no_rows(present):
                raise TargetNotEmpty(NOT_EMPTY)
            if present is None:
                _remove(self.path)  # a log without its database would be taken for one of ours
            self._beside.rename(self.path)
        sync(self.path.parent)


@contextmanager
def _alone(path: Path) -> Iterator[sqlite3.Connection | None]:
    """The database, locked, when no other process has it open; None where there is none."""
    if not path.exists():
        yield None
        return
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        try:
            # The write-ahead log can be left only when everyone else has closed the file; nothing remains
            # beside it then.
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            raise TargetInUse(f"another process has {path} open; {ADVICE}") from error
        yield connection


def _has_no_rows(connection: sqlite3.Connection) -> bool:
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return not any(connection.execute(query).fetchone() for name, query in _row_queries() if name in there)


def _inode(path: Path) -> str:
    status = path.stat()
    return f"{status.st_dev}:{status.st_ino}"


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _url(path: Path) -> str:
    return URL.create("sqlite", database=str(path)).render_as_string()


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """A database on a server."""

    url: str

    def is_empty(self) -> bool:
        with self._engine() as engine:
            with engine.connect() as connection:
                _check_alone(connection)
            return _is_empty(engine)

    def identity(self) -> str:
        with self._engine() as engine, engine.connect() as connection:
            return _table_oid(connection)

    @contextmanager
    def staging(self) -> Iterator[Staged]:
        with self._engine() as engine, engine.connect() as connection:
            if not connection.execute(
                text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _RESTORE_LOCK}
            ).scalar():
                raise TargetInUse("another process restores into this database")
            schema = str(connection.execute(text("SELECT current_schema()")).scalar_one())
            connection.execute(text(f"CREATE SCHEMA {STAGING}"))
            connection.execute(text(f"SET LOCAL search_path TO {STAGING}"))
            yield _PostgresStaged(connection, schema)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        engine = create_engine(self.url, pool_size=1)
        try:
            yield engine
        finally:
            engine.dispose()


@dataclass(frozen=True, slots=True)
class _PostgresStaged:
    connection: Connection
    schema: str

    @property
    def identity(self) -> str:
        return _table_oid(self.connection)

    def switch(self, *, replace: bool) -> None:
        run = self.connection.exec_driver_sql
        _check_alone(self.connection)
        schema = self.connection.dialect.identifier_preparer.quote(self.schema)
        staged = inspect(self.connection).get_table_names(schema=STAGING)
        there = set(inspect(self.connection).get_table_names(schema=self.schema))
        present = ", ".join(f"{schema}.{name}" for name in staged if name in there)
        if present:
            run(f"LOCK TABLE {present} IN ACCESS EXCLUSIVE MODE")
            run(f"SET LOCAL search_path TO {schema}")
            if not replace and any(run(query).first() for name, query in _row_queries() if name in there):
                raise TargetNotEmpty(NOT_EMPTY)
            run(f"DROP TABLE {present}")
        for name in staged:
            run(f"ALTER TABLE {STAGING}.{name} SET SCHEMA {schema}")
        run(f"DROP SCHEMA {STAGING}")
        self.connection.commit()


def _table_oid(connection: Connection) -> str:
    return str(connection.execute(text("SELECT to_regclass('collections')::oid")).scalar() or "")


def _check_alone(connection: Connection) -> None:
    n_others = connection.execute(
        text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    ).scalar_one()
    if n_others:
        raise TargetInUse(f"the database has {n_others} other connections; {ADVICE}")


def _is_empty(engine: Engine) -> bool:
    try:
        migration.check(engine)
    except SchemaMissing:
        return True
    with engine.execution_options(read_only=True).connect() as connection:
        return not any(connection.exec_driver_sql(query).first() for _, query in _row_queries())


def _row_queries() -> Iterator[tuple[str, str]]:
    """For each table, a query that gives a row where a user has left one.

    Every database has the collection `default`, and a worker makes it an index.
    """
    for table in Base.metadata.sorted_tables:
        if table.name in LEFT_OUT or table.name == "index_versions":
            continue
        where = " WHERE name <> 'default'" if table.name == "collections" else ""
        yield table.name, f"SELECT 1 FROM {table.name}{where} LIMIT 1"


def target_of(url: str) -> Target:
    """The database of a URL that `app.db.engine` takes."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(os.path.abspath(str(parsed.database)))
        path.parent.mkdir(parents=True, exist_ok=True)
        return SqliteTarget(path)
    return PostgresTarget(url)


def forget_staged(url: str) -> None:
    """Removes the tables that a killed restore has left; on PostgreSQL they went with its transaction."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        _remove(Path(f"{os.path.abspath(str(parsed.database))}{_BESIDE}"))
