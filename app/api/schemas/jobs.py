"""Jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from app.api.schemas.base import ErrorBody, Response, error_body
from app.db.tables import JobRow
from app.ids import format_id

JobStatus = Literal["todo", "doing", "succeeded", "failed", "cancelled"]


class JobOut(Response):
    id: str
    kind: str
    status: JobStatus
    document_id: str | None
    attempts: int
    max_attempts: int
    progress: dict[str, Any]
    error: ErrorBody | None
    result: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobList(Response):
    data: list[JobOut]
    next_cursor: str | None


class IndexBuilding(Response):
    job: JobOut


def job_out(row: JobRow) -> JobOut:
    return JobOut(
        id=row.id,
        kind=row.kind,
        status=row.status,
        document_id=format_id(row.document_id) if row.document_id is not None else None,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        progress={"done": row.progress_done, "total": row.progress_total, "note": row.progress_note},
        error=error_body(row.error_code, row.error_detail),
        result=row.result,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
