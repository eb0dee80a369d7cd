"""Index versions of a collection.

`create` · `get` · `active` · `list_all` · `set_status` · `set_counts` · `activate` · `previous` · `served` ·
`lagging` · `delete`.
The caller commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from app.db import collections
from app.db.errors import VersionActive, VersionNotFound, VersionNotReady
from app.db.tables import ChunkRow, CollectionRow, DocumentRow, IndexVersionRow
from app.db.types import utc_now

VersionStatus = Literal["building", "ready", "retired", "failed"]


def create(
    session: Session,
    version_id: str,
    *,
    collection_id: int,
    encoder_name: str,
    encoder_fingerprint: str,
    encoder_spec: Mapping[str, Any],
    chunker_fingerprint: str,
    chunker_spec: Mapping[str, Any],
    dim: int,
    directory: str,
    now: datetime | None = None,
) -> IndexVersionRow:
    """A version that is being built. Raises CollectionNotFound."""
    collections.get(session, collection_id)
    row = IndexVersionRow(
        id=version_id,
        collection_id=collection_id,
        status="building",
        encoder_name=encoder_name,
        encoder_fingerprint=encoder_fingerprint,
        encoder_spec=dict(encoder_spec),
        chunker_fingerprint=chunker_fingerprint,
        chunker_spec=dict(chunker_spec),
        dim=dim,
        directory=directory,
        created_at=now or utc_now(),
    )
    session.add(row)
    session.flush()
    return row


def get(session: Session, version_id: str) -> IndexVersionRow:
    """Raises VersionNotFound."""
    row = session.get(IndexVersionRow, version_id, populate_existing=True)
    if row is None:
        raise VersionNotFound(f"there is no index version {version_id!r}")
    return row


def active(session: Session, collection_id: int) -> IndexVersionRow | None:
    """The version that is served, or None while there is none. Raises CollectionNotFound."""
    version_id = collections.get(session, collection_id).active_version_id
    return get(session, version_id) if version_id is not None else None


def list_all(
    session: Session, *, collection_id: int | None = None, status: VersionStatus | None = None
) -> Sequence[IndexVersionRow]:
    """Versions, the newest first."""
    statement = select(IndexVersionRow).order_by(IndexVersionRow.created_at.desc(), IndexVersionRow.id.desc())
    if collection_id is not None:
        statement = statement.where(IndexVersionRow.collection_id == collection_id)
    if status is not None:
        statement = statement.where(IndexVersionRow.status == status)
    return session.scalars(statement.execution_options(populate_existing=True)).all()


def set_status(session: Session, version_id: str, status: VersionStatus, *, error: str | None = None) -> None:
    """Raises VersionNotFound; VersionActive for a status in which the served version could not be served."""
    if status != "ready" and _is_active(session, version_id):
        raise VersionActive("the version is served; activate another one first")
    _update(session, version_id, status=status, error=error)


def set_counts(
    session: Session, version_id: str, *, n_documents: int, n_chunks: int, change_number: int
) -> None:
    """Record what the version holds and the last change it has applied. Raises VersionNotFound."""
    _update(session, version_id, n_documents=n_documents, n_chunks=n_chunks, change_number=change_number)


def activate(session: Session, version_id: str, *, now: datetime | None = None) -> IndexVersionRow:
    """Serve this version from now on. Raises VersionNotFound, and VersionNotReady for one not ready to be."""
    version = session.scalars(
        select(IndexVersionRow)
        .where(IndexVersionRow.id == version_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if version is None:
        raise VersionNotFound(f"there is no index version {version_id!r}")
    if version.status != "ready":
        raise VersionNotReady(f"the version is {version.status}; only a ready one can be served")
    before = active(session, version.collection_id)
    session.execute(
        update(CollectionRow)
        .where(CollectionRow.id == version.collection_id)
        .values(active_version_id=version_id)
        .execution_options(synchronize_session=False)
    )
    if before is not None and before.chunker_fingerprint != version.chunker_fingerprint:
        _count_chunks(session, version)
    _update(session, version_id, activated_at=now or utc_now())
    return get(session, version_id)


def previous(session: Session, collection_id: int) -> IndexVersionRow | None:
    """The ready version that was served before the present one, else the newest ready one: for a rollback."""
    present = collections.get(session, collection_id).active_version_id
    candidates = [
        version
        for version in list_all(session, collection_id=collection_id, status="ready")
        if version.id != present
    ]
    served = [version for version in candidates if version.activated_at is not None]
    if served:
        return max(served, key=lambda version: (version.activated_at, version.id))
    return candidates[0] if candidates else None


def served(session: Session) -> list[str]:
    """The versions that are served, one of each collection that has any."""
    statement = select(CollectionRow.active_version_id).where(CollectionRow.active_version_id.is_not(None))
    return [
        version_id for version_id in session.scalars(statement.order_by(CollectionRow.name)) if version_id
    ]


def lagging(session: Session) -> list[str]:
    """The served versions that have not applied every change of their collection."""
    statement = (
        select(IndexVersionRow.id)
        .join(CollectionRow, CollectionRow.active_version_id == IndexVersionRow.id)
        .where(IndexVersionRow.change_number < CollectionRow.change_number)
        .order_by(IndexVersionRow.id)
    )
    return list(session.scalars(statement))


def delete(session: Session, version_id: str) -> None:
    """Forget a version; its directory is the caller's to remove. Raises VersionNotFound, VersionActive."""
    row = get(session, version_id)
    if _is_active(session, version_id):
        raise VersionActive("the version is served; activate another one first")
    session.execute(delete_from(IndexVersionRow).where(IndexVersionRow.id == version_id))
    session.expunge(row)


def count_chunks_of(session: Session, document_id: int) -> None:
    """Says of a document how many chunks it has under the chunker of the version that is served."""
    version = session.scalars(
        select(IndexVersionRow)
        .join(CollectionRow, CollectionRow.active_version_id == IndexVersionRow.id)
        .join(DocumentRow, DocumentRow.collection_id == CollectionRow.id)
        .where(DocumentRow.id == document_id)
    ).one_or_none()
    if version is not None:
        _count_chunks(session, version, DocumentRow.id == document_id)


def _count_chunks(session: Session, version: IndexVersionRow, *which: ColumnElement[bool]) -> None:
    """Says of every document, or of some, how many chunks it has under the version's chunker."""
    n_chunks = (
        select(func.count())
        .where(ChunkRow.document_id == DocumentRow.id, ChunkRow.chunker == version.chunker_fingerprint)
        .scalar_subquery()
    )
    session.execute(
        update(DocumentRow)
        .where(DocumentRow.collection_id == version.collection_id, DocumentRow.n_chunks != n_chunks, *which)
        .values(n_chunks=n_chunks)
        .execution_options(synchronize_session=False)
    )


def _is_active(session: Session, version_id: str) -> bool:
    statement = select(CollectionRow.id).where(CollectionRow.active_version_id == version_id)
    return session.execute(statement).first() is not None


def _update(session: Session, version_id: str, **values: Any) -> None:
    statement = (
        update(IndexVersionRow)
        .where(IndexVersionRow.id == version_id)
        .values(**values)
        .returning(IndexVersionRow.id)
        .execution_options(synchronize_session=False)
    )
    if session.execute(statement).scalar_one_or_none() is None:
        raise VersionNotFound(f"there is no index version {version_id!r}")
