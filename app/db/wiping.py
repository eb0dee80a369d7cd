"""`wipe`: what was deleted from the database is no longer in its files either."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from app.db.tables import Base

WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiped:
    """Whether the files hold nothing of what was deleted, and what was done."""

    is_done: bool
    detail: str


def wipe(engine: Engine, *, wait_seconds: float = WAIT_SECONDS) -> Wiped:
    """Writes the database anew, so that free pages and the write-ahead log keep nothing.

    It takes as long as copying the database, and as much room; writers wait meanwhile, readers do not.
    """
    if engine.dialect.name == "sqlite":
        return _wipe_sqlite(engine, wait_seconds)
    return _vacuum_postgresql(engine)


def _wipe_sqlite(engine: Engine, wait_seconds: float) -> Wiped:
    # Zeroing what is deleted (`secure_delete`) would leave the copies that balancing the pages has made.
    pooled = engine.raw_connection()
    try:
        raw = pooled.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("PRAGMA query_only = OFF")
        raw.execute("VACUUM")
        deadline = time.monotonic() + wait_seconds
        while raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > deadline:
                return Wiped(is_done=False, detail="the write-ahead log is still read by another connection")
            time.sleep(0.05)
    except sqlite3.OperationalError as error:
        return Wiped(is_done=False, detail=f"the database could not be written anew: {error}")
    finally:
        pooled.close()
    return Wiped(is_done=True, detail="sqlite: the database was written anew and its log emptied")


def _vacuum_postgresql(engine: Engine) -> Wiped:
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM {names}")
    except DBAPIError as error:
        return Wiped(is_done=False, detail=f"the database could not be vacuumed: {error.orig}")
    return Wiped(
        is_done=True,
        detail=(
            "postgresql: the tables were vacuumed, so that their room is used again; until it is, and in the "
            "server's write-ahead log, replicas and backups, bytes can remain: see VACUUM FULL"
        ),
    )
