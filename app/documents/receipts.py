"""What a deletion removed where, as it is kept and shown afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from app.db import deletions, versions
from app.db.paging import Page
from app.db.tables import DeletionRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRemoval:
    """What was removed from an index version, and the last change that it has followed.

    A row is a chunk's words and its vector; `n_nodes` counts the rows of nodes that rested on the chunks.
    `pending` says why it is not done; None where it is.
    """

    version: str
    n_rows: int
    change_number: int
    pending: str | None = None
    n_nodes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How many searches of a mode found their document before the deletion, and how many after it."""

    mode: str
    n_searches: int
    n_found_before: int
    n_found_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a deletion removed where. `purged_at`: when the last byte of it was written over."""

    id: str
    kind: str
    collection: str
    document_ids: tuple[str, ...]
    change_number: int
    deleted_at: datetime
    purged_at: datetime | None
    rows: Mapping[str, int]
    files: Mapping[str, int]
    indexes: tuple[IndexRemoval, ...]
    probe: tuple[Probe, ...]
    notes: tuple[str, ...]

    @property
    def pending(self) -> tuple[str, ...]:
        """What is still to be done, and by whom."""
        late = [f"index version {item.version}: {item.pending}" for item in self.indexes if item.pending]
        return (*late, *self.notes)


def read_receipt(services: Services, deletion_id: str) -> Receipt:
    """A receipt as of now: what was pending and has been done since is pending no more.

    Raises DeletionNotFound.
    """
    with services.read() as session:
        row = deletions.get(session, deletion_id)
        return receipt_of(row, _reached(session, row.collection_id))


def list_receipts(
    services: Services, *, collection_id: int | None = None, limit: int = 50, cursor: str | None = None
) -> Page[Receipt]:
    """Receipts, the newest first, each as `read_receipt` gives it. Raises CursorError."""
    with services.read() as session:
        page = deletions.list_page(session, collection_id=collection_id, limit=limit, cursor=cursor)
        reached = {key: _reached(session, key) for key in {row.collection_id for row in page.items}}
    items = [receipt_of(row, reached[row.collection_id]) for row in page.items]
    return Page(items=items, next_cursor=page.next_cursor)


def _reached(session: Session, collection_id: int) -> dict[str, int]:
    """How far each version of a collection has followed the changes."""
    return {row.id: row.change_number for row in versions.list_all(session, collection_id=collection_id)}


def receipt_of(row: DeletionRow, reached: Mapping[str, int] | None = None) -> Receipt:
    """As it was kept; with how far the versions have followed the changes since, as of now."""
    details = row.receipt
    removals = [IndexRemoval(**item) for item in details.get("indexes", ())]
    if reached is not None:
        removals = [_settled(item, row.change_number, reached) for item in removals]
    return Receipt(
        id=row.id,
        kind=row.kind,
        collection=row.collection,
        document_ids=tuple(row.document_ids),
        change_number=row.change_number,
        deleted_at=row.deleted_at,
        purged_at=row.purged_at,
        rows=details["rows"],
        files=details.get("files", {}),
        indexes=tuple(removals),
        probe=tuple(Probe(**item) for item in details.get("probe", ())),
        notes=tuple(details.get("notes", ())),
    )


def _settled(item: IndexRemoval, change: int, reached: Mapping[str, int]) -> IndexRemoval:
    """A removal that was pending is done once its version has followed the deletion, or is gone."""
    number = reached.get(item.version)
    if item.pending is None or (number is not None and number < change):
        return item
    return replace(item, change_number=change if number is None else number, pending=None)
