"""The schema: made by migrations alone, equal to the models, safe to upgrade from several processes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from app.db import migration
from app.db.engine import create_engine
from app.db.errors import SchemaBehind, SchemaMissing, SchemaUnknown
from app.db.tables import Base


def test_migrations_give_exactly_the_schema_of_the_models(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []
    inspector = inspect(engine)
    for table in Base.metadata.sorted_tables:
        found = {index["name"] for index in inspector.get_indexes(table.name)}
        assert {index.name for index in table.indexes} <= found


def test_upgrading_twice_changes_nothing(empty_database_url):
    migration.upgrade(empty_database_url)
    migration.upgrade(empty_database_url)
    engine = create_engine(empty_database_url)
    assert migration.current(engine) == migration.head()
    migration.check(engine)
    engine.dispose()


def test_several_processes_upgrade_one_new_database(empty_database_url):
    program = f"from app.db import migration; migration.upgrade({empty_database_url!r})"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert [code for _, code in outcomes] == [0] * 3, outcomes
    engine = create_engine(empty_database_url)
    migration.check(engine)
    engine.dispose()


def test_the_tables_can_be_taken_down_again(empty_database_url):
    migration.upgrade(empty_database_url)
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        config = migration._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    engine.dispose()


class TestCheck:
    @pytest.fixture
    def marked(self, empty_database_url):
        engine = create_engine(empty_database_url)

        def mark(revision):
            with engine.begin() as connection:
                connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
                connection.execute(text("INSERT INTO alembic_version VALUES (:r)"), {"r": revision})
            return engine

        yield mark
        engine.dispose()

    def test_a_database_without_tables(self, empty_database_url):
        engine = create_engine(empty_database_url)
        with pytest.raises(SchemaMissing):
            migration.check(engine)
        engine.dispose()

    def test_a_database_of_an_older_program(self, marked, monkeypatch):
        engine = marked(migration.head())
        monkeypatch.setattr(migration, "head", lambda: "9999")
        with pytest.raises(SchemaBehind, match="footnote db upgrade"):
            migration.check(engine)

    def test_a_database_of_a_newer_program(self, marked):
        engine = marked("9999")
        with pytest.raises(SchemaUnknown):
            migration.check(engine)
        with pytest.raises(SchemaUnknown):
            migration.upgrade(engine)


def test_a_failed_sqlite_migration_leaves_no_trace(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'half.db'}"

    def fail_at_the_end(connection):
        run(connection)
        raise RuntimeError("power cut")

    run = migration._run
    monkeypatch.setattr(migration, "_run", fail_at_the_end)
    with pytest.raises(RuntimeError, match="power cut"):
        migration.upgrade(url)
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
