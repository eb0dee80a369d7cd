"""Jobs: what the worker has done, does and will do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.api.schemas.jobs import JobList, JobOut, JobStatus, job_out
from app.db import jobs
from app.deps import ServicesDep
from app.documents import cancelling
from app.ids import parse_id
from app.services import Services

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

EVENT_PAUSE_SECONDS = 0.25


@router.get("")
def list_jobs(
    services: ServicesDep,
    status: JobStatus | None = None,
    document_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: str | None = None,
) -> JobList:
    """Jobs, the newest first."""
    document = parse_id(document_id, "document") if document_id is not None else None
    with services.read() as session:
        page = jobs.list_page(session, status=status, document_id=document, limit=limit, cursor=cursor)
    return JobList(data=[job_out(row) for row in page.items], next_cursor=page.next_cursor)


@router.get("/{job_id}")
def get_job(services: ServicesDep, job_id: str) -> JobOut:
    with services.read() as session:
        return job_out(jobs.get(session, job_id))


@router.post("/{job_id}/cancel")
def cancel_job(services: ServicesDep, job_id: str) -> JobOut:
    """Cancels a waiting job at once; a running one stops at its next step."""
    with services.write() as session:
        return job_out(cancelling.cancel(session, job_id))


@router.post("/{job_id}/retry")
def retry_job(services: ServicesDep, job_id: str) -> JobOut:
    """Puts a failed or cancelled job back in the queue."""
    with services.write() as session:
        return job_out(cancelling.retry(session, job_id))


@router.get("/{job_id}/events")
def job_events(services: ServicesDep, job_id: str) -> EventSourceResponse:
    """The job each time it changes, until it has ended, as server-sent events named `job`."""
    with services.read() as session:
        jobs.get(session, job_id)
    return EventSourceResponse(_changes(services, job_id))


async def _changes(services: Services, job_id: str) -> AsyncIterator[ServerSentEvent]:
    """On the event loop, and not in a thread of its own: there may be more listeners than threads."""
    last = None
    while True:
        body = await run_in_threadpool(_shown, services, job_id)
        if body != last:
            yield ServerSentEvent(data=body.model_dump_json(), event="job")
            last = body
        if body.status in ("succeeded", "failed", "cancelled"):
            return
        await asyncio.sleep(EVENT_PAUSE_SECONDS)


def _shown(services: Services, job_id: str) -> JobOut:
    with services.read() as session:
        return job_out(jobs.get(session, job_id))
