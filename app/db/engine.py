"""The way to the database: `create_engine(url)`, then `session_factory(engine)` for what writes and
`session_factory(engine, read_only=True)` for what only reads.

A writing transaction on SQLite begins with BEGIN IMMEDIATE, so that it waits for its turn at the start and
never fails half-way because another one wrote first. A read-only transaction takes no lock, sees one snapshot
on both databases, and refuses to write.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import URL, Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker

from app.db.errors import DatabaseUrlError

if TYPE_CHECKING:
    import psycopg  # of the extra `postgres`

BUSY_TIMEOUT_SECONDS = 30.0
# The inner pages of the indexes over a million chunks: with the 2 MiB of SQLite they are read anew each time.
CACHE_KIBIBYTES = 16_384

OpenSession = Callable[[], AbstractContextManager[Session]]
"""Opens a session for one transaction: committed at the end of the block, rolled back on an error."""


def create_engine(url: str, *, pool_size: int = 5) -> Engine:
    """An engine for `sqlite:///file` or `postgresql://…`; no connection is made yet.

    One of PostgreSQL raises DatabaseUrlError where its database does not keep text as UTF-8.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, pool_size)
    engine = sqlalchemy.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
    )
    # Before the driver's own look at the server, which cannot read what an SQL_ASCII database says.
    event.listen(engine, "connect", _refuse_narrow_text, insert=True)
    return engine


def session_factory(engine: Engine, *, read_only: bool = False) -> sessionmaker[Session]:
    """Sessions whose rows stay readable after the commit; with `read_only`, ones that refuse to write."""
    if not read_only:
        return sessionmaker(engine, expire_on_commit=False)
    options: dict[str, Any] = {"read_only": True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return sessionmaker(engine.execution_options(**options), expire_on_commit=False, autoflush=False)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise DatabaseUrlError(
            "the database URL cannot be read; write sqlite:///file or postgresql://…"
        ) from exc
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise DatabaseUrlError(f"no database of kind {backend!r}; write sqlite:///file or postgresql://…")
    if backend == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise DatabaseUrlError("the database must be a file, since several processes share it")
        folder = Path(str(parsed.database)).resolve().parent
        if not folder.is_dir():
            raise DatabaseUrlError(f"the folder of the database does not exist: {folder}")
    return parsed


def _refuse_narrow_text(connection: psycopg.Connection, _record: object) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatabaseUrlError(
            f"the database keeps text as {encoding}, which not every document fits; "
            "make one with ENCODING 'UTF8' TEMPLATE template0"
        )


def _sqlite_engine(url: URL, pool_size: int) -> Engine:
    engine = sqlalchemy.create_engine(
        url.set(drivername="sqlite+pysqlite"),
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Without this the driver begins transactions by itself, late, and never before a SELECT.
    connection.isolation_level = None
    _write_ahead_log(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    connection.create_function("casefolded", 1, _lower, deterministic=True)


def _write_ahead_log(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on: once in the life of a file, maybe by several processes at once."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
        except sqlite3.OperationalError as exc:
            # The busy timeout does not cover this switch.
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        else:
            raise DatabaseUrlError("the file system of the database does not allow a write-ahead log")
        time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _lower(value: object) -> str | None:
    return value.lower() if isinstance(value, str) else None
