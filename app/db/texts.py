"""Texts that both databases can hold."""

from __future__ import annotations

from typing import overload

from app.db.errors import InvalidText


@overload
def checked_text(name: str, value: str, *, max_bytes: int | None = None) -> str: ...
@overload
def checked_text(name: str, value: str | None, *, max_bytes: int | None = None) -> str | None: ...
def checked_text(name: str, value: str | None, *, max_bytes: int | None = None) -> str | None:
    """The value itself. Raises InvalidText for a NUL, a lone surrogate, or too many bytes in UTF-8.

    >>> checked_text("title", "Größe")
    'Größe'
    """
    if value is None:
        return None
    fault = fault_of(value)
    if fault is not None:
        raise InvalidText(f"{name} {fault}")
    if max_bytes is not None and len(value.encode()) > max_bytes:
        raise InvalidText(f"{name} is longer than {max_bytes} bytes")
    return value


def storable(value: str) -> str:
    """The text with what no database can hold replaced; for messages, which must never be refused.

    >>> storable("a\\0b")
    'a\ufffdb'
    """
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def fault_of(value: str) -> str | None:
    """Why a text cannot be stored everywhere, or None: PostgreSQL refuses NUL, UTF-8 lone surrogates."""
    if "\0" in value:
        return "contains a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "contains half of a surrogate pair"
    return None
