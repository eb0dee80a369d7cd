"""Alembic's way in: the connection that `app.db.migration` hands over, or one for the command line."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from app.db.engine import create_engine
from app.db.tables import Base


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # SQLite cannot alter a table; batch mode copies it.
        render_as_batch=connection.dialect.name == "sqlite",
        # Both databases roll a failed migration back as a whole.
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        _migrate(given)
        return
    engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "")
    try:
        with engine.begin() as connection:
            _migrate(connection)
    finally:
        engine.dispose()


_run()
