"""Cancelling and retrying jobs, so that a job's document says the same as the job."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy.orm import Session

from app.db import documents, jobs
from app.db.errors import DocumentNotFound, JobNotRetryable, RevisionNotFound
from app.db.tables import JobRow
from app.documents.intake import INGEST

CANCELLED = "cancelled"
CANCELLED_DETAIL = "The job was cancelled; retry it, or send the document again."


def cancel(session: Session, job_id: str) -> JobRow:
    """Cancels a waiting job at once, or asks the worker of a running one to stop.

    Raises JobNotFound, JobNotCancellable.
    """
    job = jobs.cancel(session, job_id)
    if job.status == "cancelled":
        note_failure(session, job, CANCELLED, CANCELLED_DETAIL)
    return job


def retry(session: Session, job_id: str) -> JobRow:
    """Puts a failed or cancelled job back in the queue, and its document with it.

    Raises JobNotFound, and JobNotRetryable, also where the document is gone.
    """
    job = jobs.retry(session, job_id)
    if job.kind == INGEST and job.document_id is not None:
        try:
            documents.wait_again(session, job.document_id)
        except DocumentNotFound as error:
            raise JobNotRetryable("the document of the job was deleted") from error
    return job


def note_failure(session: Session, job: JobRow, code: str, detail: str) -> None:
    """A document whose job ended without success has failed; one that is gone, or overtaken, has not."""
    if job.kind == INGEST and job.document_id is not None:
        with suppress(DocumentNotFound, RevisionNotFound):
            number = int(job.payload["revision"])
            documents.set_error(session, job.document_id, number, code=code, detail=detail)
