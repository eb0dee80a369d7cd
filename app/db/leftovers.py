"""What nothing needs any more, removed in bites, so that no one waits long for the database.

`unused_chunkers` · `forget_chunks` · `orphan_vectors` · `forget_vectors`. The caller commits after each bite.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from app.db import nodes, vectors, versions
from app.db.dialects import in_batches
from app.db.tables import ChunkRow, DocumentRow, VectorRow
from app.db.types import utc_now

VectorKey = tuple[str, str]
"""(fingerprint, text hash)."""

BITE = 5000


def unused_chunkers(session: Session, collection_id: int) -> set[str]:
    """The chunkers under which a collection has chunks and no version that is ready or being built."""
    present = session.scalars(
        select(ChunkRow.chunker)
        .join(DocumentRow, DocumentRow.id == ChunkRow.document_id)
        .where(DocumentRow.collection_id == collection_id)
        .distinct()
    )
    rows = versions.list_all(session, collection_id=collection_id)
    return set(present) - {row.chunker_fingerprint for row in rows if row.status in ("ready", "building")}


def forget_chunks(session: Session, collection_id: int, chunker: str, *, limit: int = BITE) -> int:
    """Removes some of a collection's chunks under a chunker; how many went, 0 when none is left."""
    some = (
        select(ChunkRow.id)
        .join(DocumentRow, DocumentRow.id == ChunkRow.document_id)
        .where(DocumentRow.collection_id == collection_id, ChunkRow.chunker == chunker)
        .limit(limit)
    )
    statement = delete(ChunkRow).where(ChunkRow.id.in_(some)).returning(ChunkRow.id)
    gone = session.scalars(statement.execution_options(synchronize_session=False)).all()
    nodes.forget_resting_on(session, gone)
    return len(gone)


def orphan_vectors(
    session: Session,
    *,
    grace_seconds: float,
    after: VectorKey = ("", ""),
    limit: int = BITE,
    now: datetime | None = None,
) -> list[VectorKey]:
    """The next kept vectors, by key, of texts that no chunk or node has, older than the grace period."""
    before = (now or utc_now()) - timedelta(seconds=grace_seconds)
    statement = (
        select(VectorRow.fingerprint, VectorRow.text_hash)
        .where(
            tuple_(VectorRow.fingerprint, VectorRow.text_hash) > tuple_(*after),
            VectorRow.created_at <= before,
            ~vectors.needed(),
        )
        .order_by(VectorRow.fingerprint, VectorRow.text_hash)
        .limit(limit)
    )
    return [(fingerprint, text_hash) for fingerprint, text_hash in session.execute(statement)]


def forget_vectors(session: Session, keys: Sequence[VectorKey]) -> int:
    """Removes these vectors, unless a chunk or node has come that needs one; how many went."""
    n_gone = 0
    for batch in in_batches(keys, 200):
        statement = (
            delete(VectorRow)
            .where(tuple_(VectorRow.fingerprint, VectorRow.text_hash).in_(batch), ~vectors.needed())
            .returning(VectorRow.text_hash)
        )
        n_gone += len(session.execute(statement.execution_options(synchronize_session=False)).all())
    return n_gone
