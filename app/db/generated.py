"""Generated golden questions repeat what a document says, so they go with it."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db.dialects import in_batches
from app.db.tables import GoldenQuestionRow


def forget(session: Session, collection_id: int, sources: Iterable[str]) -> int:
    """Remove the generated questions that expect one of these documents; how many. The caller commits."""
    gone = set(sources)
    rows = session.execute(
        select(GoldenQuestionRow.id, GoldenQuestionRow.expected).where(
            GoldenQuestionRow.collection_id == collection_id, GoldenQuestionRow.generator.is_not(None)
        )
    ).all()
    doomed = [key for key, expected in rows if any(item["source"] in gone for item in expected)]
    for batch in in_batches(doomed):
        statement = delete(GoldenQuestionRow).where(GoldenQuestionRow.id.in_(batch))
        session.execute(statement.execution_options(synchronize_session=False))
    return len(doomed)
