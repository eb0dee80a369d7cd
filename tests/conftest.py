"""Shared fixtures: `database_url`, an empty database at the present schema, on SQLite and on PostgreSQL.

`pytest --database sqlite|postgres|both` (or FOOTNOTE_TEST_DATABASE) says on which every test that takes
`database_url` runs; the default is both where a PostgreSQL server can be started.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from app.db import migration
from app.db.engine import create_engine, session_factory
from app.db.tables import Base
from tests.postgres import Server, ServerUnavailable, running_server

DATABASES = ("sqlite", "postgres")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=[*DATABASES, "both"],
        default=os.environ.get("FOOTNOTE_TEST_DATABASE", "both"),
        help="the database of the tests that need one (default: both)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--database")
    names = DATABASES if chosen == "both" else (chosen,)
    params = [
        pytest.param(name, marks=[pytest.mark.postgres] if name == "postgres" else []) for name in names
    ]
    metafunc.parametrize("database", params, indirect=True, scope="function")


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """The kind of database of this test: `sqlite` or `postgres`."""
    return str(request.param)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """One PostgreSQL server for all tests; they are skipped where none can be started."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_server())
        except ServerUnavailable as exc:
            pytest.skip(f"no PostgreSQL server could be started: {exc}")
        yield server


@pytest.fixture(scope="session")
def postgres_database(postgres_server: Server) -> str:
    """The name of a database with the tables, which the tests use one after another."""
    name = postgres_server.create()
    migration.upgrade(postgres_server.url(name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the tables, to be copied."""
    path = tmp_path_factory.mktemp("template") / "footnote.db"
    migration.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def empty_database_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    if database == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: Server = request.getfixturevalue("postgres_server")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def database_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of this test's own, with the tables and no rows."""
    if database == "sqlite":
        path = tmp_path / "footnote.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server: Server = request.getfixturevalue("postgres_server")
    name = request.getfixturevalue("postgres_database")
    yield server.url(name)
    server.clear(name, [table.name for table in reversed(Base.metadata.sorted_tables)])


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on `database_url`."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    """Sessions that write."""
    return session_factory(engine)


@pytest.fixture
def session(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """A session that writes; what the test does not commit is rolled back."""
    with sessions() as session:
        yield session


@pytest.fixture
def reading(engine: Engine) -> Callable[[], Session]:
    """Sessions that only read."""
    return session_factory(engine, read_only=True)
