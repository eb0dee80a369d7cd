"""Errors that say nothing about a request or a job: the disk is full or away, or the database cannot be used
now."""

from __future__ import annotations

import errno
import sqlite3

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from app.errors import Unavailable

STORAGE_FULL = "storage_full"
STORAGE_MISSING = "storage_missing"
DATABASE_UNAVAILABLE = "database_unavailable"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_POSTGRES_FULL = "53100"


def is_storage_full(error: BaseException) -> bool:
    """Whether a file or a row could not be written because there is no room left.

    >>> is_storage_full(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    if isinstance(error, DBAPIError) and error.orig is not None:
        if isinstance(error.orig, sqlite3.Error):
            return getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        return getattr(error.orig, "sqlstate", None) == _POSTGRES_FULL
    return isinstance(error, OSError) and error.errno in _FULL


def described(error: BaseException) -> str:
    """The kind of an error and what it says, without the statement and the values that SQLAlchemy adds.

    >>> described(OperationalError("INSERT …", {"text": "a document"}, ValueError("disk full")))
    'ValueError: disk full'
    """
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"{type(cause).__name__}: {cause}"


def outage_of(error: BaseException) -> str | None:
    """`storage_full`, `storage_missing` or `database_unavailable`; None where the error is of another kind.

    A statement that SQLite does not understand will not be understood later either: that is no outage.

    >>> outage_of(OperationalError("SELECT", {}, ValueError("connection refused")))
    'database_unavailable'
    """
    if is_storage_full(error):
        return STORAGE_FULL
    if isinstance(error, Unavailable) and error.code == STORAGE_MISSING:
        return STORAGE_MISSING
    if isinstance(error, OperationalError | InterfaceError):
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            return None
        return DATABASE_UNAVAILABLE
    return None
