"""Ids at the edge: 63-bit numbers inside, 16 hex digits outside (JSON numbers are inexact above 2^53)."""

from __future__ import annotations

import re

from app.errors import NotFound

_ID = re.compile(r"[0-9A-Fa-f]{16}")  # stricter than `int`, which takes signs, spaces and underscores too


def format_id(number: int) -> str:
    """
    >>> format_id(255)
    '00000000000000ff'
    """
    return f"{number:016x}"


def parse_id(text: str, what: str) -> int:
    """The number behind an id; raises NotFound (`<what>_not_found`) where the text is none.

    >>> parse_id("00000000000000ff", "document")
    255
    """
    if _ID.fullmatch(text) and (number := int(text, 16)) < 2**63:
        return number
    raise NotFound(f"There is no {what} {text!r}: an id has 16 hexadecimal digits.", code=f"{what}_not_found")
