"""A second implementation of the filter language: plain loops over one document's values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = ("title", "source", "filename", "media_type", "status")
EXACT = 2**53


def holds(filters: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Whether a filter holds for `document`: its columns by name, and its metadata under `meta`."""
    return all(_entry(name, value, document) for name, value in filters.items())


def _entry(name: str, value: Any, document: Mapping[str, Any]) -> bool:
    if name == "$and":
        return all(holds(inner, document) for inner in value)
    if name == "$or":
        return any(holds(inner, document) for inner in value)
    if name == "$not":
        return not holds(value, document)
    terms = value if isinstance(value, dict) else {"$eq": value}
    found = list(values_of(name, document))
    return all(_term(operator, operand, found) for operator, operand in terms.items())


def _term(operator: str, operand: Any, found: list[Any]) -> bool:
    match operator:
        case "$eq":
            return _in([operand], found)
        case "$ne":
            return not _in([operand], found)
        case "$in":
            return _in(operand, found)
        case "$nin":
            return not _in(operand, found)
        case "$like":
            return any(like(operand, text(value)) for value in found if text(value) is not None)
    return any(_compares(operator, value, operand) for value in found)


def _in(wanted: list[Any], found: list[Any]) -> bool:
    if not found:
        return None in wanted
    return any(_equal(value, operand) for value in found for operand in wanted if operand is not None)


def _equal(value: Any, operand: Any) -> bool:
    if isinstance(operand, bool):
        return isinstance(value, bool) and value == operand
    if isinstance(operand, str) or _is_big(operand):
        return text(value) == str(operand)
    return number(value) == float(operand)


def _compares(operator: str, value: Any, operand: Any) -> bool:
    left, right = (text(value), operand) if isinstance(operand, str) else (number(value), float(operand))
    if left is None:
        return False
    return {"$gt": left > right, "$gte": left >= right, "$lt": left < right, "$lte": left <= right}[operator]


def text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) or _is_big(value) else None


def number(value: Any) -> float | None:
    return None if isinstance(value, str) or _is_big(value) else float(value)


def like(pattern: str, value: str) -> bool:
    expression, escaped = "", False
    for character in pattern.lower():
        if escaped or character not in "\\%_":
            expression += re.escape(character)
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            expression += ".*" if character == "%" else "."
    return re.fullmatch(expression, value.lower(), re.DOTALL) is not None


def values_of(name: str, document: Mapping[str, Any]) -> Iterator[Any]:
    if name in COLUMNS:
        yield from [] if document[name] is None else [document[name]]
        return
    wanted = name.removeprefix("metadata.")
    yield from (value for field, value in _flat("", document["meta"]) if field == wanted)


def _flat(field: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(f"{field}.{name}" if field else name, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(field, inner)
    elif value is not None:
        yield field, value


def _is_big(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT
