"""The filter language: from JSON to SQL over documents.

    {"year": {"$gte": 2020}, "$or": [{"author": "Ada"}, {"tags": {"$in": ["maths", "logic"]}}]}

A field is a name of the metadata (`a.b` for nested ones) or one of the document's own: title, source,
filename, media_type, status, created_at, updated_at. `metadata.x` always means the metadata, whatever `x`
is called. `{"field": value}` is `$eq`. Several names in one object must all hold, and so must several
operators of one field.

- `$eq`, `$in`: a field with a list holds where one element does. A number equals numbers, a text texts, a
  boolean booleans; but a boolean in the metadata is found as the text `true` and the number 1 too. Null
  means that the field is missing.
- `$ne`, `$nin`: the opposite of these, so they hold for documents without the field.
- `$gt`, `$gte`, `$lt`, `$lte`: numbers among numbers, texts among texts by code point, dates by instant.
- `$like`: `%` any characters, `_` one, `\\` before them as such; upper and lower case are one.
- `$and`, `$or` take lists of filters, `$not` a filter.

Whatever else stands in a filter raises FilterError; nothing is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import numpy as np
from sqlalchemy import ColumnElement, and_, false, literal, not_, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.dialects import casefolded
from app.db.errors import FilterError, MetadataError
from app.db.metadata import EXACT_INTEGER, MAX_FIELD_BYTES, TEXT_KEY_LENGTH, Attribute, attribute_of
from app.db.tables import AttributeRow, DocumentRow
from app.db.texts import fault_of
from indexing.types import Ids

__all__ = ["FilterError", "allowed_documents", "compile_filter"]

MAX_DEPTH = 16
MAX_TERMS = 200
MAX_VALUES = 1000
MAX_PATTERN_LENGTH = 1000

# PostgreSQL turns each term into a join, which is best for a few; to plan 200 of them takes it 14 seconds.
MAX_JOINED_TERMS = 8

Condition: TypeAlias = ColumnElement[bool]

_TEXT_COLUMNS: Final[Mapping[str, InstrumentedAttribute[Any]]] = {
    "title": DocumentRow.title,
    "source": DocumentRow.source,
    "filename": DocumentRow.filename,
    "media_type": DocumentRow.media_type,
    "status": DocumentRow.status,
}
_DATE_COLUMNS: Final[Mapping[str, InstrumentedAttribute[Any]]] = {
    "created_at": DocumentRow.created_at,
    "updated_at": DocumentRow.updated_at,
}
_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Condition]]] = {
    "$gt": lambda column, value: column > value,
    "$gte": lambda column, value: column >= value,
    "$lt": lambda column, value: column < value,
    "$lte": lambda column, value: column <= value,
}
_OPERATORS: Final = ("$eq", "$ne", "$in", "$nin", *_COMPARISONS, "$like")


def compile_filter(filters: Mapping[str, Any]) -> ColumnElement[bool]:
    """The condition on `documents` that a filter stands for; an empty one holds for every document.

    The condition is true or false, never unknown. Raises FilterError.
    """
    compiler = _Compiler()
    condition = compiler.all_of(filters, path="", depth=0)
    if compiler.n_terms <= MAX_JOINED_TERMS:
        return condition
    return _Compiler(fenced=True).all_of(filters, path="", depth=0)


def allowed_documents(session: Session, collection_id: int, filters: Mapping[str, Any]) -> Ids:
    """The ids of a collection's documents for which a filter holds, sorted, int64. Raises FilterError."""
    statement = (
        select(DocumentRow.id)
        .where(DocumentRow.collection_id == collection_id, compile_filter(filters))
        .order_by(DocumentRow.id)
    )
    return np.fromiter(session.scalars(statement), dtype=np.int64)


@dataclass(slots=True)
class _Compiler:
    """Walks one filter, and counts what it has seen of it; `fenced` keeps terms from becoming joins."""

    fenced: bool = False
    n_terms: int = 0
    n_values: int = 0

    def all_of(self, filters: object, *, path: str, depth: int) -> Condition:
        if not isinstance(filters, Mapping):
            raise FilterError(f"a filter is an object, not {_kind(filters)}", path)
        if depth > MAX_DEPTH:
            raise FilterError(f"the filter is nested more than {MAX_DEPTH} deep", path)
        conditions = [self._entry(name, value, path=path, depth=depth) for name, value in filters.items()]
        return and_(true(), *conditions)

    def _entry(self, name: object, value: object, *, path: str, depth: int) -> Condition:
        if not isinstance(name, str):
            raise FilterError(f"a name is a text, not {_kind(name)}", path)
        here = f"{path}.{name}" if path else name
        if name in ("$and", "$or"):
            return self._list_of_filters(name, value, path=here, depth=depth)
        if name == "$not":
            return not_(self.all_of(value, path=here, depth=depth + 1))
        if name.startswith("$"):
            hint = "it belongs inside a field" if name in _OPERATORS else "there is no such operator"
            raise FilterError(f"{name} cannot stand here; {hint}", here)
        return self._field(self._named(name, here), value, path=here)

    def _named(self, name: str, path: str) -> _Field:
        if name in _TEXT_COLUMNS:
            return _TextColumn(_TEXT_COLUMNS[name])
        if name in _DATE_COLUMNS:
            return _DateColumn(_DATE_COLUMNS[name])
        field = name.removeprefix("metadata.")
        if not field or fault_of(field) is not None or len(field.encode()) > MAX_FIELD_BYTES:
            raise FilterError("this cannot be the name of a field", path)
        return _MetadataField(field, self.fenced)

    def _list_of_filters(self, name: str, value: object, *, path: str, depth: int) -> Condition:
        if not isinstance(value, list | tuple) or not value:
            raise FilterError(f"{name} takes a list of at least one filter", path)
        conditions = [
            self.all_of(inner, path=f"{path}[{index}]", depth=depth + 1) for index, inner in enumerate(value)
        ]
        return and_(*conditions) if name == "$and" else or_(*conditions)

    def _field(self, field: _Field, value: object, *, path: str) -> Condition:
        if not isinstance(value, Mapping):
            return self._term(field, "$eq", value, path=path)
        if not value:
            raise FilterError("a field needs a value or an operator", path)
        return and_(*(self._term(field, operator, operand, path=path) for operator, operand in value.items()))

    def _term(self, field: _Field, operator: object, operand: object, *, path: str) -> Condition:
        here = f"{path}.{operator}"
        self.n_terms += 1
        if self.n_terms > MAX_TERMS:
            raise FilterError(f"the filter has more than {MAX_TERMS} terms", here)
        match operator:
            case "$eq":
                return self._any_of(field, [operand], here)
            case "$ne":
                return not_(self._any_of(field, [operand], here))
            case "$in":
                return self._any_of(field, _list(operand, here), here)
            case "$nin":
                return not_(self._any_of(field, _list(operand, here), here))
            case "$like":
                return field.like(_pattern(operand, here), here)
            case str() if operator in _COMPARISONS:
                return field.compare(_COMPARISONS[operator], operand, here)
        raise FilterError(f"there is no operator {operator!r}; there are {', '.join(_OPERATORS)}", path)

    def _any_of(self, field: _Field, values: Sequence[object], path: str) -> Condition:
        self.n_values += len(values)
        if self.n_values > MAX_VALUES:
            raise FilterError(f"the filter has more than {MAX_VALUES} values", path)
        conditions = [field.equal([value for value in values if value is not None], path)]
        if None in values:
            conditions.append(field.missing())
        return or_(false(), *conditions)


@dataclass(frozen=True, slots=True)
class _TextColumn:
    """A text of the document's own row."""

    column: InstrumentedAttribute[Any]

    def equal(self, values: Sequence[object], path: str) -> Condition:
        return and_(self.column.is_not(None), self.column.in_([_text(value, path) for value in values]))

    def missing(self) -> Condition:
        return self.column.is_(None)

    def compare(self, comparison: Callable[[Any, Any], Condition], value: object, path: str) -> Condition:
        return and_(self.column.is_not(None), comparison(self.column, _text(value, path)))

    def like(self, pattern: str, path: str) -> Condition:  # noqa: ARG002
        return and_(self.column.is_not(None), _matches(self.column, pattern))


@dataclass(frozen=True, slots=True)
class _DateColumn:
    """An instant of the document's own row."""

    column: InstrumentedAttribute[Any]

    def equal(self, values: Sequence[object], path: str) -> Condition:
        return self.column.in_([_instant(value, path) for value in values])

    def missing(self) -> Condition:
        return false()

    def compare(self, comparison: Callable[[Any, Any], Condition], value: object, path: str) -> Condition:
        return comparison(self.column, _instant(value, path))

    def like(self, pattern: str, path: str) -> Condition:  # noqa: ARG002
        raise FilterError("a date is not a text; compare it with $gte and $lt", path)


@dataclass(frozen=True, slots=True)
class _MetadataField:
    """A name of the metadata: holds where one of its values does."""

    name: str
    fenced: bool

    def equal(self, values: Sequence[object], path: str) -> Condition:
        attributes = [_attribute(value, path) for value in values]
        numbers = [item.number for item in attributes if item.text is None]
        texts = [item.text for item in attributes if item.text is not None and item.number is None]
        booleans = [item.text for item in attributes if item.text is not None and item.number is not None]
        short = [value for value in texts if len(value) < TEXT_KEY_LENGTH]
        long = [value for value in texts if len(value) >= TEXT_KEY_LENGTH]
        conditions: list[Condition] = []
        if numbers:
            conditions.append(AttributeRow.number_value.in_(numbers))
        if short:
            conditions.append(AttributeRow.text_key.in_(short))
        if long:
            keys = [value[:TEXT_KEY_LENGTH] for value in long]
            conditions.append(and_(AttributeRow.text_key.in_(keys), AttributeRow.text_value.in_(long)))
        if booleans:
            is_boolean = and_(AttributeRow.text_key.in_(booleans), AttributeRow.number_value.is_not(None))
            conditions.append(is_boolean)
        return self._some(or_(*conditions)) if conditions else false()

    def missing(self) -> Condition:
        return not_(self._some(true()))

    def compare(self, comparison: Callable[[Any, Any], Condition], value: object, path: str) -> Condition:
        attribute = _attribute(value, path)
        if isinstance(value, bool):
            raise FilterError("a boolean is neither more nor less than another", path)
        if attribute.number is not None:
            return self._some(comparison(AttributeRow.number_value, attribute.number))
        if not isinstance(value, str):
            raise FilterError(f"a number beyond ±{EXACT_INTEGER} can be compared only with $eq", path)
        return self._some(comparison(AttributeRow.text_value, value))

    def like(self, pattern: str, path: str) -> Condition:  # noqa: ARG002
        return self._some(_matches(AttributeRow.text_value, pattern))

    def _some(self, condition: Condition) -> Condition:
        members = select(AttributeRow.document_id).where(AttributeRow.field == self.name, condition)
        # An OFFSET is what PostgreSQL's planner does not look behind.
        return DocumentRow.id.in_(members.offset(0) if self.fenced else members)


_Field: TypeAlias = _TextColumn | _DateColumn | _MetadataField


def _attribute(value: object, path: str) -> Attribute:
    try:
        return attribute_of(path, value)
    except MetadataError as exc:
        raise FilterError(
            f"a value is a text, a finite number or a boolean, not {_kind(value)}", path
        ) from exc


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise FilterError(f"this field is compared with a text, not {_kind(value)}", path)
    fault = fault_of(value)
    if fault is not None:
        raise FilterError(f"the text {fault}", path)
    return value


def _instant(value: object, path: str) -> datetime:
    try:
        instant = datetime.fromisoformat(_text(value, path))
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise FilterError("a date is written as in 2024-05-01 or 2024-05-01T12:30:00Z", path) from exc


def _list(value: object, path: str) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise FilterError(f"this operator takes a list, not {_kind(value)}", path)
    return value


def _pattern(value: object, path: str) -> str:
    pattern = _text(value, path)
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise FilterError(f"the pattern is longer than {MAX_PATTERN_LENGTH} characters", path)
    n_trailing = len(pattern) - len(pattern.rstrip("\\"))
    if n_trailing % 2:
        raise FilterError("the pattern ends within an escape; write \\\\ for a backslash", path)
    return pattern


def _matches(column: InstrumentedAttribute[Any], pattern: str) -> Condition:
    return casefolded(column).like(casefolded(literal(pattern)), escape="\\")


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
    return type(value).__name__
