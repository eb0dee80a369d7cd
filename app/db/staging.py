"""Chunks of long documents on their way to `chunks`: `put` · `move` · `discard`. The caller commits.

Hundreds of thousands of rows take the database a minute, in which on SQLite no one else can write, and the
lease of the job would end. So they are put here first, a few at a time, where no one sees them, and then
moved by one statement, within the transaction that shows the document.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from app.db.chunks import row_values
from app.db.dialects import in_batches, insert
from app.db.tables import ChunkRow, StagedChunkRow
from indexing.types import Chunk

BITE = 5000


def put(session: Session, revision: int, chunker: str, chunks: Iterable[Chunk]) -> None:
    """Stages chunks; raises IntegrityError where their document or revision has gone."""
    for batch in in_batches(chunks):
        statement = insert(session, StagedChunkRow).on_conflict_do_nothing()
        session.execute(statement, [row_values(chunk, revision, chunker) for chunk in batch])


def move(session: Session, document_id: int, revision: int, chunker: str) -> None:
    """Makes the staged chunks chunks of the document; `discard` what is left of them afterwards."""
    names = [column.name for column in ChunkRow.__table__.columns]
    staged = select(*(StagedChunkRow.__table__.c[name] for name in names)).where(
        StagedChunkRow.document_id == document_id,
        StagedChunkRow.revision == revision,
        StagedChunkRow.chunker == chunker,
    )
    statement = insert(session, ChunkRow).from_select(names, staged)
    excluded = statement.excluded
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[ChunkRow.id],
            set_={
                "revision": excluded.revision,
                "page": excluded.page,
                "heading_path": excluded.heading_path,
            },
        )
    )


def discard(session: Session, document_id: int, chunker: str, *, limit: int = BITE) -> int:
    """Removes some of the document's staged chunks; how many went, 0 when none is left."""
    key = tuple_(StagedChunkRow.revision, StagedChunkRow.ordinal)
    mine = StagedChunkRow.document_id == document_id, StagedChunkRow.chunker == chunker
    some = select(StagedChunkRow.revision, StagedChunkRow.ordinal).where(*mine).limit(limit)
    statement = delete(StagedChunkRow).where(*mine, key.in_(some)).returning(StagedChunkRow.ordinal)
    return len(session.execute(statement.execution_options(synchronize_session=False)).all())
