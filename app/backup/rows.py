"""Rows as JSON Lines: the form in which a table travels between databases.

A part of a table is one text: its first line names the columns, each later line is a row, a JSON array.
Bytes stand beside it, those of all rows one after another, and in the row only how many they are: vectors
would grow by a third as text, and packing them gains nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    TypeDecorator,
)

from app.backup.errors import ArchiveDamaged

PART_BYTES = 4 * 1024 * 1024
"""A part is closed when it has as many, with its bytes."""

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ASCII_JSON = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))
_KINDS = (Boolean, JSON, LargeBinary, DateTime, Integer, Float, String)
_INTEGER_LIMIT = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some rows of a table: JSON Lines, and the bytes that the rows point at."""

    n_rows: int
    lines: bytes
    binary: bytes


def kind_of(column: Column[Any]) -> type[Any]:
    """Which of a few general types a column has; raises TypeError for one without a form in an archive."""
    kind: Any = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    for general in _KINDS:
        if isinstance(kind, general):
            return general
    raise TypeError(f"{column} is of type {column.type!r}, for which backups have no form")


def write_parts(table: Table, rows: Iterable[Row[Any]]) -> Iterator[Part]:
    """The rows, whose values stand in the order of the table's columns; no part where there is no row."""
    kinds = [kind_of(column) for column in table.columns]
    instants = [index for index, kind in enumerate(kinds) if kind is DateTime]
    binaries = [index for index, kind in enumerate(kinds) if kind is LargeBinary]
    head = _line([column.name for column in table.columns])
    lines, binary, n_bytes = [head], list[bytes](), 0
    for row in rows:
        values = list(row)
        for index in instants:
            if values[index] is not None:
                values[index] = values[index].isoformat()
        for index in binaries:
            if values[index] is not None:
                binary.append(bytes(values[index]))
                values[index] = len(binary[-1])
                n_bytes += values[index]
        lines.append(_line(values))
        n_bytes += len(lines[-1])
        if n_bytes >= PART_BYTES:
            yield Part(n_rows=len(lines) - 1, lines=b"".join(lines), binary=b"".join(binary))
            lines, binary, n_bytes = [head], [], 0
    if len(lines) > 1:
        yield Part(n_rows=len(lines) - 1, lines=b"".join(lines), binary=b"".join(binary))


def _line(values: list[Any]) -> bytes:
    try:
        return _JSON.encode(values).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, as SQLite's JSON may hold it
        return _ASCII_JSON.encode(values).encode() + b"\n"


Read = Callable[[Any], Any]
"""Turns a value of the archive into one for the database; raises ValueError with what is wrong."""


@dataclass(slots=True)
class RowReader:
    """Reads the parts of one table into rows for an INSERT."""

    table: Table
    naive_instants: bool
    """Whether the database takes instants without a time zone, as SQLite does."""

    def read(self, name: str, part: bytes, binary: bytes) -> list[dict[str, Any]]:
        """The rows of a part called `name`. Raises ArchiveDamaged for anything that no backup writes."""
        lines = part.split(b"\n")
        if lines.pop() != b"":
            raise ArchiveDamaged(f"{name} is cut off")
        slices = _Slices(binary)
        columns, readers = self._columns(name, lines[0] if lines else b"", slices)
        rows = []
        for number, line in enumerate(lines[1:], start=2):
            try:
                rows.append(_row(columns, readers, line))
            except ValueError as error:
                raise ArchiveDamaged(f"{name}, line {number}: {error}") from error
        if not slices.at_end:
            raise ArchiveDamaged(f"{name}: there are more bytes than the rows point at")
        return rows

    def _columns(self, name: str, head: bytes, slices: _Slices) -> tuple[list[str], list[Read]]:
        try:
            columns = _parsed(head)
        except ValueError as error:
            raise ArchiveDamaged(f"{name}, line 1: {error}") from error
        names = [column.name for column in self.table.columns]
        if not all(isinstance(column, str) for column in columns) or sorted(columns) != sorted(names):
            raise ArchiveDamaged(f"{name}: the columns are not those of the table `{self.table.name}`")
        return columns, [self._reader(self.table.columns[column], slices) for column in columns]

    def _reader(self, column: Column[Any], slices: _Slices) -> Read:
        kind = kind_of(column)
        read: Read
        if kind is DateTime:
            read = partial(_instant, naive=self.naive_instants)
        elif kind is LargeBinary:
            read = slices.take
        elif kind is String:
            read = partial(_text, max_chars=getattr(column.type, "length", None))
        else:
            read = {Boolean: _boolean, Integer: _integer, Float: _number, JSON: _json}[kind]
        return partial(_optional, column.name, read, bool(column.nullable) or kind is JSON)


def _row(columns: Sequence[str], readers: Sequence[Read], line: bytes) -> dict[str, Any]:
    values = _parsed(line)
    if len(values) != len(columns):
        raise ValueError(f"{len(values)} values for {len(columns)} columns")
    return {column: read(value) for column, read, value in zip(columns, readers, values, strict=True)}


def _parsed(line: bytes) -> list[Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(value, list):
        raise ValueError("not a JSON array")
    return value


def _optional(name: str, read: Read, nullable: bool, value: Any) -> Any:
    if value is None:
        if not nullable:
            raise ValueError(f"column `{name}` has no value")
        return None
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"column `{name}` {error}") from error


def _text(value: Any, *, max_chars: int | None) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text")
    if "\0" in value:
        raise ValueError("contains a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("contains half of a surrogate pair") from None
    if max_chars is not None and len(value) > max_chars:
        raise ValueError(f"is longer than {max_chars} characters")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
        raise ValueError("is no integer of 64 bits")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError("is no number")
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")
    return value


def _instant(value: Any, *, naive: bool) -> datetime:
    if not isinstance(value, str):
        raise ValueError("is no instant")
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is no instant") from None
    if instant.tzinfo is None:
        raise ValueError("is an instant without a time zone")
    try:
        instant = instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("is no instant") from None
    return instant.replace(tzinfo=None) if naive else instant


def _json(value: Any) -> Any:
    return value


class _Slices:
    """Bytes that are taken piece by piece."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: Any) -> bytes:
        if type(size) is not int or not 0 <= size <= len(self._data) - self._at:
            raise ValueError("points beyond the bytes of its part")
        self._at += size
        return self._data[self._at - size : self._at]
