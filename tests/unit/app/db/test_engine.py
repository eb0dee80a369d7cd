"""Engines and sessions: what a reader sees, what a writer waits for, and which addresses are refused."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, StatementError

from app.db import collections
from app.db.engine import create_engine, session_factory
from app.db.errors import DatabaseUrlError
from app.db.tables import CollectionRow
from tests.postgres import Server


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://localhost/x", "no database of kind 'mysql'"),
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
        ("sqlite:////no/such/folder/x.db", "/no/such/folder"),
    ],
)
def test_an_address_that_cannot_serve_is_refused(url, message):
    with pytest.raises(DatabaseUrlError, match=message):
        create_engine(url)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_does_not_keep_every_text_is_refused(postgres_server: Server, encoding: str):
    name = postgres_server.create(encoding=encoding)
    try:
        with (
            pytest.raises(DatabaseUrlError, match=encoding),
            create_engine(postgres_server.url(name)).connect(),
        ):
            pass
    finally:
        postgres_server.drop(name)


def test_a_password_is_not_in_the_error():
    with pytest.raises(DatabaseUrlError) as caught:
        create_engine("oracle://me:secret@host/x")
    assert "secret" not in str(caught.value)


def test_sqlite_is_set_up_to_lose_nothing(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with engine.connect() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    engine.dispose()
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 30000}


def test_a_read_only_session_refuses_to_write(engine, reading):
    with reading() as session, pytest.raises(DBAPIError):
        collections.create(session, "x")
    # The connection goes back to the pool, and the next writer gets it.
    with session_factory(engine).begin() as session:
        collections.create(session, "x")


def test_a_reader_sees_one_snapshot_and_does_not_hold_up_a_writer(reading, sessions):
    with reading() as reader:
        assert collections.list_all(reader) == []
        with sessions.begin() as writer:
            collections.create(writer, "new")
        assert collections.list_all(reader) == []
    with reading() as reader:
        assert [row.name for row in collections.list_all(reader)] == ["new"]


def test_a_reader_is_not_held_up_by_an_open_writer(reading, sessions):
    with sessions() as writer:
        collections.create(writer, "unfinished")
        with reading() as reader:
            assert collections.list_all(reader) == []
        writer.rollback()


def test_read_then_write_in_many_threads_loses_no_update(sessions):
    with sessions.begin() as session:
        collection_id = collections.create(session, "x").id

    def add():
        for _ in range(10):
            with sessions.begin() as session:
                row = session.scalars(
                    select(CollectionRow).where(CollectionRow.id == collection_id).with_for_update()
                ).one()
                row.change_number += 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions() as session:
        assert collections.get(session, collection_id).change_number == 40


def test_rows_stay_readable_after_the_commit(sessions):
    with sessions.begin() as session:
        row = collections.create(session, "x")
    assert row.name == "x"


class TestInstants:
    def test_come_back_aware_and_in_utc(self, sessions):
        east = datetime(2024, 5, 1, 12, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        with sessions.begin() as session:
            collections.create(session, "x", now=east)
        with sessions() as session:
            found = collections.get_by_name(session, "x").created_at
        assert found == east
        assert found.utcoffset() == timedelta(0)
        assert found == datetime(2024, 5, 1, 7, 0, 0, 123456, tzinfo=UTC)

    def test_a_naive_one_is_refused(self, session):
        with pytest.raises(StatementError, match="time zone"):
            collections.create(session, "x", now=datetime(2024, 5, 1))
