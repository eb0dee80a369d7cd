"""Collections and their change numbers.

`create` · `ensure_default` · `get` · `get_by_name` · `list_all` · `delete` · `next_change` · `lock` ·
`changes_since` · `forget_changes`. The caller commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import Table, bindparam, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from app.db.dialects import insert
from app.db.errors import CollectionExists, CollectionInUse, CollectionNotFound
from app.db.tables import ChangeRow, CollectionRow, DocumentRow
from app.db.texts import checked_text
from app.db.types import utc_now
from indexing.types import stable_id

DEFAULT = "default"
_DOCUMENTS = cast(Table, DocumentRow.__table__)
ChangeKind = Literal["upsert", "delete"]


def id_of(name: str) -> int:
    """The id that a collection of this name has or would have."""
    return stable_id("collection", name)


def create(
    session: Session,
    name: str,
    *,
    description: str = "",
    settings: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> CollectionRow:
    """A new, empty collection. Raises CollectionExists."""
    if not _insert(session, name, description, settings or {}, now or utc_now()):
        raise CollectionExists(f"there is already a collection named {name!r}")
    return get_by_name(session, name)


def ensure_default(session: Session, *, now: datetime | None = None) -> CollectionRow:
    """The collection `default`, made if it is not there."""
    _insert(session, DEFAULT, "", {}, now or utc_now())
    return get_by_name(session, DEFAULT)


def get(session: Session, collection_id: int) -> CollectionRow:
    """Raises CollectionNotFound."""
    row = session.get(CollectionRow, collection_id, populate_existing=True)
    if row is None:
        raise CollectionNotFound("there is no such collection")
    return row


def get_by_name(session: Session, name: str) -> CollectionRow:
    """Raises CollectionNotFound."""
    row = session.get(CollectionRow, id_of(name), populate_existing=True)
    if row is None:
        raise CollectionNotFound(f"there is no collection named {name!r}")
    return row


def list_all(session: Session) -> Sequence[CollectionRow]:
    """Every collection, by name."""
    return session.scalars(select(CollectionRow).order_by(CollectionRow.name)).all()


def delete(session: Session, collection_id: int) -> None:
    """Remove the collection with its documents, versions and changes; jobs remain as a record.

    Raises CollectionNotFound, and CollectionInUse for the default collection.
    """
    row = get(session, collection_id)
    if row.name == DEFAULT:
        raise CollectionInUse("the default collection cannot be deleted")
    session.execute(delete_from(CollectionRow).where(CollectionRow.id == collection_id))
    session.expunge(row)


def next_change(
    session: Session,
    collection_id: int,
    document_id: int,
    kind: ChangeKind,
    *,
    now: datetime | None = None,
) -> int:
    """Log a change of a document, and give its number: gap-free, in the order of the commits.

    The collection's row stays locked until the commit. Call this before changing the document, so that all
    transactions lock in one order. Raises CollectionNotFound.
    """
    return log_changes(session, collection_id, [document_id], kind, now=now)


def log_changes(
    session: Session,
    collection_id: int,
    document_ids: Sequence[int],
    kind: ChangeKind,
    *,
    now: datetime | None = None,
) -> int:
    """The same for many documents, one change each in the order given; gives the last number."""
    last = session.execute(
        update(CollectionRow)
        .where(CollectionRow.id == collection_id)
        .values(change_number=CollectionRow.change_number + len(document_ids))
        .returning(CollectionRow.change_number)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if last is None:
        raise CollectionNotFound("there is no such collection")
    numbered = list(enumerate(document_ids, start=last - len(document_ids) + 1))
    if numbered:
        common = {"collection_id": collection_id, "kind": kind, "created_at": now or utc_now()}
        session.execute(
            insert(session, ChangeRow),
            [{"number": number, "document_id": key, **common} for number, key in numbered],
        )
        session.connection().execute(
            update(_DOCUMENTS)
            .where(_DOCUMENTS.c.id == bindparam("key"))
            .values(change_number=bindparam("new_number")),
            [{"key": key, "new_number": number} for number, key in numbered],
        )
    return last


def lock(session: Session, collection_id: int) -> None:
    """Keep others from logging changes until the commit: for a step that knows late if it is one."""
    session.execute(select(CollectionRow.id).where(CollectionRow.id == collection_id).with_for_update())


def changes_since(
    session: Session, collection_id: int, number: int, *, limit: int | None = None
) -> Sequence[ChangeRow]:
    """The changes after the given number, in order, at most `limit`."""
    statement = (
        select(ChangeRow)
        .where(ChangeRow.collection_id == collection_id, ChangeRow.number > number)
        .order_by(ChangeRow.number)
        .limit(limit)
    )
    return session.scalars(statement).all()


def forget_changes(session: Session, collection_id: int, up_to: int) -> int:
    """Drop the log up to a number that every kept index version has applied; how many rows went."""
    result = session.execute(
        delete_from(ChangeRow)
        .where(ChangeRow.collection_id == collection_id, ChangeRow.number <= up_to)
        .returning(ChangeRow.number)
    )
    return len(result.all())


def _insert(
    session: Session, name: str, description: str, settings: Mapping[str, Any], now: datetime
) -> bool:
    """Insert unless it is there; say whether it was new."""
    statement = (
        insert(session, CollectionRow)
        .values(
            id=id_of(checked_text("name", name, max_bytes=200)),
            name=name,
            description=checked_text("description", description),
            change_number=0,
            settings=dict(settings),
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(CollectionRow.id)
    )
    return session.execute(statement).scalar_one_or_none() is not None
