"""A document's metadata as the flat rows that filters look at.

Nested names are joined with dots, a list gives one row per element, and null gives none. A string is text; a
number is a number; a boolean is both, `true` and 1. A whole number too large for a float to hold exactly is
kept as text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.db.errors import MetadataError
from app.db.texts import fault_of

TEXT_KEY_LENGTH = 256
MAX_FIELD_BYTES = 512
MAX_VALUES = 1000
MAX_DEPTH = 16
EXACT_INTEGER = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One scalar: a text, a number, or for a boolean both."""

    text: str | None = None
    number: float | None = None


def flatten(metadata: Mapping[str, Any]) -> list[tuple[str, Attribute]]:
    """The (field, attribute) pairs of metadata. Raises MetadataError for what a filter could never find.

    >>> [(field, value.text, value.number) for field, value in flatten({"a": {"b": [1, "x"]}, "c": None})]
    [('a.b', None, 1.0), ('a.b', 'x', None)]
    """
    pairs: list[tuple[str, Attribute]] = []
    for field, value in _scalars("", metadata, depth=0):
        if len(field.encode("utf-8", "surrogatepass")) > MAX_FIELD_BYTES:
            raise MetadataError(f"the metadata name {field[:40]!r}… is longer than {MAX_FIELD_BYTES} bytes")
        pairs.append((field, attribute_of(field, value)))
        if len(pairs) > MAX_VALUES:
            raise MetadataError(f"the metadata has more than {MAX_VALUES} values")
    return pairs


def attribute_of(field: str, value: object) -> Attribute:
    """How a scalar is compared. Raises MetadataError for anything else, NaN and infinity included."""
    if isinstance(value, bool):
        return Attribute(text="true" if value else "false", number=float(value))
    if isinstance(value, int):
        return Attribute(text=str(value)) if abs(value) > EXACT_INTEGER else Attribute(number=float(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MetadataError(f"the metadata value of {field!r} is not a finite number")
        return Attribute(number=value)
    if isinstance(value, str):
        fault = fault_of(value)
        if fault is not None:
            raise MetadataError(f"the metadata value of {field!r} {fault}")
        return Attribute(text=value)
    raise MetadataError(f"the metadata value of {field!r} is of type {type(value).__name__}")


def _scalars(field: str, value: object, *, depth: int) -> Iterator[tuple[str, object]]:
    if depth > MAX_DEPTH:
        raise MetadataError(f"the metadata is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str) or not name or fault_of(name) is not None:
                raise MetadataError(f"{name!r} cannot be the name of metadata")
            yield from _scalars(f"{field}.{name}" if field else name, inner, depth=depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _scalars(field, inner, depth=depth + 1)
    elif value is not None:
        yield field, value
