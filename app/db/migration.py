"""The schema of a database: `upgrade` · `upgrade_within` · `current` · `head` · `check`.

The migrations are found as the installed package `migrations`, so no configuration file is needed.
"""

from __future__ import annotations

from importlib.util import find_spec

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, text

from app.db.engine import create_engine
from app.db.errors import SchemaBehind, SchemaMissing, SchemaUnknown

# Any number that no other program on the same PostgreSQL database locks.
_UPGRADE_LOCK = 5_482_107_336_914_420


def upgrade(database: str | Engine) -> None:
    """Bring the schema to `head`, in one transaction; of several processes one does it and the others wait.

    Raises SchemaUnknown for a database of a newer program.
    """
    if isinstance(database, str):
        engine = create_engine(database)
        try:
            upgrade(engine)
        finally:
            engine.dispose()
        return
    if current(database) == head():
        return
    with database.connect() as connection:
        if database.dialect.name == "sqlite":
            _upgrade_sqlite(connection)
        else:
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
                _run(connection)


def upgrade_within(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to a revision within the caller's transaction; on SQLite with foreign keys off.

    Raises SchemaUnknown for a revision that this program does not know.
    """
    if revision != "head":
        _refuse_unknown(revision)
    _run(connection, revision)


def current(engine: Engine) -> str | None:
    """The revision of the schema; None for a database without tables."""
    with engine.execution_options(read_only=True).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The revision that this program needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def check(engine: Engine) -> None:
    """Raises SchemaMissing, SchemaBehind or SchemaUnknown unless the schema is at `head`."""
    found, wanted = current(engine), head()
    if found == wanted:
        return
    if found is None:
        raise SchemaMissing("the database has no tables yet; run `footnote db upgrade`")
    _refuse_unknown(found)
    raise SchemaBehind(f"the database is at {found}, this program needs {wanted}; run `footnote db upgrade`")


def _upgrade_sqlite(connection: Connection) -> None:
    raw = connection.connection.driver_connection
    assert raw is not None
    # Batch mode drops and renames tables; with the switch on, that would delete the rows that point to them.
    # Within a transaction the switch does nothing.
    raw.execute("PRAGMA foreign_keys = OFF")
    try:
        with connection.begin():
            _run(connection)
            orphans = connection.execute(text("PRAGMA foreign_key_check")).first()
            if orphans is not None:
                raise RuntimeError(f"the migration leaves rows that point nowhere, in table {orphans[0]}")
    finally:
        raw.execute("PRAGMA foreign_keys = ON")


def _run(connection: Connection, revision: str = "head") -> None:
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None:
        _refuse_unknown(found)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _refuse_unknown(revision: str) -> None:
    try:
        ScriptDirectory.from_config(_config()).get_revision(revision)
    except CommandError as exc:
        raise SchemaUnknown(
            f"the database is at {revision}, which this program does not know; it was made by a newer one"
        ) from exc


def _config() -> Config:
    spec = find_spec("migrations")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package `migrations` is not installed")
    config = Config()
    config.set_main_option("script_location", spec.submodule_search_locations[0].replace("%", "%%"))
    return config
