"""Health and metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from app import memory
from app.api.schemas.health import Health
from app.db import documents, jobs
from app.deps import ServicesDep
from app.services import Services

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


@router.get("/health/live")
def live() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/health/ready", responses={503: {"model": Health}})
def ready(services: ServicesDep, response: Response) -> Health:
    """The service can search: the database answers and the encoder is loaded."""
    checks = {"database": _tried(lambda: _ping(services)), "encoder": _tried(lambda: _encode(services))}
    if all(result == "ok" for result in checks.values()):
        return Health(status="ok", checks=checks)
    response.status_code = 503
    return Health(status="unavailable", checks=checks)


@router.get("/metrics", response_class=Response)
def metrics(services: ServicesDep) -> Response:
    """Counters for Prometheus: requests of this process, documents and jobs of the database."""
    lines = [generate_latest(services.registry).decode()]
    with services.read() as session:
        lines.append("# TYPE footnote_documents gauge")
        per_status: dict[str, int] = {}
        for (_, status), n_documents in documents.counts(session).items():
            per_status[status] = per_status.get(status, 0) + n_documents
        lines += [f'footnote_documents{{status="{status}"}} {n}' for status, n in sorted(per_status.items())]
        lines.append("# TYPE footnote_jobs gauge")
        lines += [
            f'footnote_jobs{{kind="{kind}",status="{status}"}} {n}'
            for (kind, status), n in sorted(jobs.counts(session).items())
        ]
        lines.append("# TYPE footnote_jobs_oldest_waiting_seconds gauge")
        lines.append(f"footnote_jobs_oldest_waiting_seconds {jobs.oldest_waiting_seconds(session):.3f}")
    lines += _memory_lines(services)
    return Response("\n".join(lines) + "\n", media_type=CONTENT_TYPE_LATEST)


def _memory_lines(services: Services) -> list[str]:
    """Bytes of this process; the ceiling is compared with what is allocated, not with what is resident."""
    lines = [
        "# TYPE footnote_memory_ceiling_bytes gauge",
        f"footnote_memory_ceiling_bytes {services.settings.server.memory_bytes}",
    ]
    used = memory.usage()
    if used is not None:
        lines.append("# TYPE footnote_memory_bytes gauge")
        lines += [
            f'footnote_memory_bytes{{kind="allocated"}} {used.anonymous}',
            f'footnote_memory_bytes{{kind="resident"}} {used.resident}',
        ]
    return lines


def _tried(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:
        logger.warning("not ready", exc_info=error, extra={"action": "not_ready"})
        return f"failed: {type(error).__name__}"
    return "ok"


def _ping(services: Services) -> None:
    with services.read() as session:
        session.execute(text("SELECT 1"))


def _encode(services: Services) -> None:
    services.encoders.get(services.encoder_spec())
