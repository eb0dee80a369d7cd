"""How past work went, for estimates: `chunks_per_byte` · `bytes_per_second`."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.tables import DocumentRow, JobRow

JOBS = 1000
"""So many of the last jobs are looked at."""


def chunks_per_byte(session: Session) -> float | None:
    """Over all documents that are ready; None where there are none."""
    n_chunks, n_bytes = session.execute(
        select(func.sum(DocumentRow.n_chunks), func.sum(DocumentRow.n_bytes)).where(
            DocumentRow.status == "ready"
        )
    ).one()
    return float(n_chunks) / float(n_bytes) if n_bytes else None


def bytes_per_second(session: Session, kind: str) -> float | None:
    """Of the last jobs of a kind that succeeded, in the time in which any of them ran; None without any.

    Jobs run many at a time, so their own times overlap and must not be added.
    """
    statement = (
        select(JobRow.started_at, JobRow.finished_at, JobRow.payload)
        .where(JobRow.kind == kind, JobRow.status == "succeeded")
        .order_by(JobRow.created_at.desc(), JobRow.id.desc())
        .limit(JOBS)
    )
    spans, n_bytes = [], 0
    for started, finished, payload in session.execute(statement):
        if started is not None and finished is not None:
            spans.append((started.timestamp(), finished.timestamp()))
            n_bytes += int(payload.get("n_bytes", 0))
    seconds = covered(spans)
    return n_bytes / seconds if n_bytes and seconds else None


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of the spans.

    >>> covered([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
