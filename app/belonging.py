"""A data folder belongs to one database, which a file in it names: `check` · `announce` · `settle`.

What no row names is swept out of the folder. So a process that took another database for the folder's, by a
setting that is missing or misspelt, would remove every original file within minutes; it is refused instead.
A database is told by the instant at which its default collection was made, which a backup keeps.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import collections
from app.db.tables import CollectionRow, RevisionRow
from app.errors import Conflict
from indexing.files import replace_file

NAME = "database.json"
CODE = "home_of_another_database"


def check(home: Path, files: Path, session: Session) -> None:
    """Raises Conflict (`home_of_another_database`) unless the folder is the database's or becomes it now.

    It becomes it where it has no files but those of a restore that did not come to its end, or where it names
    no database and this one has documents.
    """
    own = identity(session)
    named = names(home)
    if own in named:
        return
    if named and (not has_files(files) or _is_unfinished(home)):
        settle(home, own)
    elif not named and (not has_files(files) or _has_documents(session)):
        _name_first(home, own)
    if own not in names(home):
        raise Conflict(
            f"The data folder {home} has the files of another database than the one that is set. Set "
            "FOOTNOTE_DATABASE_URL to that one, or take another folder with --home. If that database is gone "
            f"for good, restore a backup of it here, or move the folder's `files` and `{NAME}` away.",
            code=CODE,
        )


def identity(session: Session) -> str:
    """What tells the database from every other; empty where there is none yet."""
    made = session.scalar(
        select(CollectionRow.created_at).where(CollectionRow.id == collections.id_of(collections.DEFAULT))
    )
    return "" if made is None else made.isoformat()


def names(home: Path) -> list[str]:
    """The databases that a folder may belong to: one, or two from before a restore until its end."""
    found = _read(home).get("databases")
    return [str(name) for name in found] if isinstance(found, list) else []


def has_files(files: Path) -> bool:
    """Whether the store has any original file."""
    return any(files.glob("[0-9a-f][0-9a-f]/*"))


def announce(home: Path, files: Path, own: str) -> None:
    """From now on the folder may belong to this database too, which a restore is about to put in place."""
    is_new = not has_files(files) or _is_unfinished(home)
    known = [name for name in names(home) if name != own]
    replace_file(home / NAME, _said([*known, own], unfinished=is_new))


def settle(home: Path, own: str) -> None:
    """From now on the folder belongs to this database and no other."""
    replace_file(home / NAME, _said([own]))


def _has_documents(session: Session) -> bool:
    return session.scalar(select(RevisionRow.document_id).limit(1)) is not None


def _name_first(home: Path, own: str) -> None:
    """Names the database, unless another process has named one first."""
    beside = home / f".{NAME}.{uuid4().hex}"
    replace_file(beside, _said([own]))
    try:
        os.link(beside, home / NAME)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        replace_file(home / NAME, _said([own]))
    finally:
        beside.unlink()


def _is_unfinished(home: Path) -> bool:
    return _read(home).get("unfinished") is True


def _read(home: Path) -> dict[str, Any]:
    try:
        found = json.loads((home / NAME).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _said(databases: list[str], *, unfinished: bool = False) -> bytes:
    """`unfinished`: every file is of a restore that has not come to its switch, as far as is known."""
    return json.dumps({"databases": databases, "unfinished": unfinished}).encode() + b"\n"
