"""What SQLite and PostgreSQL have in common, but SQLAlchemy's common language has not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import FunctionElement, Text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler

T = TypeVar("T")

# SQLite allows 32,766 parameters in a statement and PostgreSQL 65,535; a batch stays far below, whatever the
# row.
PARAMETERS_PER_STATEMENT = 500


def insert(session: Session, table: Any) -> Any:
    """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def in_batches(items: Iterable[T], size: int = PARAMETERS_PER_STATEMENT) -> Iterator[list[T]]:
    """The items in lists of at most `size`, in order.

    >>> list(in_batches("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


class casefolded(FunctionElement[str]):
    """The text in lower case, by Unicode's rules on both databases, whatever the locale of the server."""

    type = Text()
    inherit_cache = True


@compiles(casefolded, "sqlite")
def _casefolded_sqlite(element: casefolded, compiler: SQLCompiler, **kw: Any) -> str:
    return f"casefolded({compiler.process(element.clauses, **kw)})"


@compiles(casefolded, "postgresql")
def _casefolded_postgresql(element: casefolded, compiler: SQLCompiler, **kw: Any) -> str:
    # SQLite's own LOWER knows ASCII only, and so does PostgreSQL's under the C collation.
    version = getattr(compiler.dialect, "server_version_info", None) or (17,)
    collation = "pg_c_utf8" if version >= (17,) else "und-x-icu"
    return f'LOWER(CAST(({compiler.process(element.clauses, **kw)}) AS TEXT) COLLATE "{collation}")'
