"""Rows of every type keep their values, through the archive and both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
)

from app.backup import rows as rows_module
from app.backup.errors import ArchiveDamaged
from app.backup.loading import _reflected
from app.backup.rows import RowReader, kind_of, write_parts
from app.db.engine import create_engine
from app.db.types import Identifier, SortedText, UtcDateTime

TABLE = Table(
    "everything",
    MetaData(),
    Column("id", Identifier, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("sorted", SortedText),
    Column("short", String(16)),
    Column("small", Integer),
    Column("flag", Boolean),
    Column("number", Float(53)),
    Column("at", UtcDateTime),
    Column("data", LargeBinary),
    Column("more", LargeBinary),
    Column("json", JSON, nullable=False),
    Column("json_or_none", JSON(none_as_null=True)),
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
zones = st.integers(-720, 840).map(lambda minutes: timezone(timedelta(minutes=minutes)))
row_values = st.fixed_dictionaries(
    {
        "id": st.integers(-(2**63), 2**63 - 1),
        "text": texts,
        "sorted": st.none() | texts,
        "short": st.none() | texts.map(lambda text: text[:16]),
        "small": st.none() | st.integers(-(2**31), 2**31 - 1),
        "flag": st.none() | st.booleans(),
        "number": st.none() | st.floats(allow_nan=False),
        "at": st.none() | st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=zones),
        "data": st.none() | st.binary(max_size=50),
        "more": st.none() | st.binary(max_size=50),
        "json": json_values,
        "json_or_none": json_values,
    }
)


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[Engine]:
    engine = create_engine(empty_database_url)
    TABLE.metadata.create_all(engine)
    yield engine
    TABLE.metadata.drop_all(engine)
    engine.dispose()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(row_values, max_size=8, unique_by=lambda row: row["id"]), st.integers(1, 400))
def test_rows_survive_the_archive_and_both_databases(
    engine: Engine, given_rows: list[dict[str, Any]], part_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, engine.connect() as connection:
        patch.setattr(rows_module, "PART_BYTES", part_bytes)
        if given_rows:
            connection.execute(TABLE.insert(), given_rows)
        there = list(map(tuple, connection.execute(TABLE.select().order_by(TABLE.c.id))))
        parts = list(write_parts(TABLE, connection.execute(TABLE.select())))
        connection.execute(TABLE.delete())
        reader = RowReader(_reflected(connection)["everything"], engine.dialect.name == "sqlite")
        for part in parts:
            rows = reader.read("part", part.lines, part.binary)
            assert len(rows) == part.n_rows > 0
            connection.execute(reader.table.insert(), rows)
        assert list(map(tuple, connection.execute(TABLE.select().order_by(TABLE.c.id)))) == there
        nulls = "SELECT count(*) FROM everything WHERE json_or_none IS NULL OR json IS NULL"
        wanted = sum(row["json_or_none"] is None for row in given_rows)
        assert connection.exec_driver_sql(nulls).scalar_one() == wanted


def part_of(**values: object) -> bytes:
    row = (
        dict.fromkeys((column.name for column in TABLE.columns), None)
        | {"id": 1, "text": "a", "json": {}}
        | values
    )
    return b"".join(json.dumps(line).encode() + b"\n" for line in (list(row), list(row.values())))


def read(part: bytes, binary: bytes = b"") -> list[dict[str, Any]]:
    return RowReader(TABLE, naive_instants=False).read("part", part, binary)


def test_columns_may_stand_in_another_order() -> None:
    (row,) = read(part_of(at="2026-01-02T03:04:05+01:00", data=2), b"ab")
    assert (row["at"], row["data"]) == (datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC), b"ab")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"id": "1"}, "`id` is no integer"),
        ({"id": True}, "`id` is no integer"),
        ({"id": 1.0}, "`id` is no integer"),
        ({"id": 2**63}, "`id` is no integer of 64 bits"),
        ({"id": None}, "`id` has no value"),
        ({"text": 1}, "`text` is no text"),
        ({"text": "a\0b"}, "`text` contains a NUL"),
        ({"text": "a\ud800"}, "`text` contains half of a surrogate pair"),
        ({"short": "a" * 17}, "`short` is longer than 16"),
        ({"flag": 1}, "`flag` is neither true nor false"),
        ({"number": "1"}, "`number` is no number"),
        ({"number": True}, "`number` is no number"),
        ({"at": 5}, "`at` is no instant"),
        ({"at": "yesterday"}, "`at` is no instant"),
        ({"at": "2026-01-02T03:04:05"}, "`at` is an instant without a time zone"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "`at` is no instant"),
        ({"data": 3}, "`data` points beyond"),
        ({"data": -1}, "`data` points beyond"),
        ({"data": "ab"}, "`data` points beyond"),
        ({"data": 1}, "more bytes than the rows point at"),
        ({"unknown": 1}, "columns are not those of the table"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(ArchiveDamaged, match=said):
        read(part_of(**values), b"ab")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (b"", "line 1: not JSON"),
        (b"\n", "line 1: not JSON"),
        (b"[1]\n", "columns are not those"),
        (b'"a"\n', "line 1: not a JSON array"),
        (part_of()[:-1], "cut off"),
        (part_of() + b"{}\n", "line 3: not a JSON array"),
        (part_of() + b"[1]\n", "line 3: 1 values for 12 columns"),
        (part_of() + b"\xff\n", "line 3: not JSON"),
        (part_of() + b"[" * 200_000 + b"\n", "line 3: not JSON"),
    ],
    ids=range(9),
)
def test_what_is_no_table_is_refused(part: bytes, said: str) -> None:
    with pytest.raises(ArchiveDamaged, match=said):
        read(part)


def test_half_a_surrogate_pair_in_json_is_written_as_json(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(TABLE.insert(), [{"id": 1, "text": "a", "json": {"a": "\ud800"}}])
        (part,) = write_parts(TABLE, connection.execute(TABLE.select()))
    assert read(part.lines)[0]["json"] == {"a": "\ud800"}


def test_a_type_without_a_form_is_named() -> None:
    with pytest.raises(TypeError, match="for which backups have no form"):
        kind_of(Column("sum", Numeric))
