"""Pages of a listing, by position and not by offset: rows that come or go neither skip nor repeat others."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from app.db.errors import CursorError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a listing; `next_cursor` is None on the last one."""

    items: Sequence[T]
    next_cursor: str | None


def write_cursor(created_at: datetime, row_id: int | str) -> str:
    """The position after a row, as a word for a URL."""
    position = json.dumps([created_at.isoformat(), row_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def read_cursor(cursor: str, id_type: type[T]) -> tuple[datetime, T]:
    """The position that `write_cursor` wrote. Raises CursorError for anything else.

    >>> from datetime import UTC
    >>> read_cursor(write_cursor(datetime(2024, 1, 2, tzinfo=UTC), 7), int)
    (datetime.datetime(2024, 1, 2, 0, 0, tzinfo=datetime.timezone.utc), 7)
    """
    try:
        decoded = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        instant, row_id = json.loads(decoded)
        created_at = datetime.fromisoformat(instant)
    except (binascii.Error, ValueError, TypeError, RecursionError) as exc:
        raise CursorError("the cursor was not made by this service") from exc
    if created_at.tzinfo is None or type(row_id) is not id_type:
        raise CursorError("the cursor was not made by this service")
    if isinstance(row_id, int) and not 0 <= row_id < 2**63:
        raise CursorError("the cursor was not made by this service")
    if isinstance(row_id, str) and not row_id.isalnum():
        raise CursorError("the cursor was not made by this service")
    return created_at, row_id
