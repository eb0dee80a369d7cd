"""Plain ASGI middleware: a request id on every response, and a bound on the work taken at once."""

from __future__ import annotations

import logging
import time
from uuid import uuid4

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import request_id
from app.problems import problem_of

logger = logging.getLogger(__name__)


class RequestIdMiddleware:
    """Takes `X-Request-ID` from the client when it is sane, else makes one; logs and counts each request."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self.app = app
        self.requests = Counter(
            "footnote_http_requests_total", "Requests", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "footnote_http_seconds", "Seconds to a response", ["route"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identifier = _given_id(scope) or uuid4().hex
        token = request_id.set(identifier)
        started, status, is_begun = time.perf_counter(), 500, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_begun
            if message["type"] == "http.response.start":
                status, is_begun = message["status"], True
                message["headers"] = [*message.get("headers", []), (b"x-request-id", identifier.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            # Here and not in the outermost layer of the framework, which knows no request id.
            problem = problem_of(error)
            if is_begun:
                raise
            await problem.response()(scope, receive, send_with_id)
        finally:
            self._record(scope, status, time.perf_counter() - started)
            request_id.reset(token)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self.requests.labels(scope["method"], route, status).inc()
        self.seconds.labels(route).observe(seconds)
        logger.info(
            "request",
            extra={
                "action": "request",
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(seconds * 1000, 1),
            },
        )


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if (
            name == b"x-request-id"
            and 1 <= len(value) <= 128
            and value.isascii()
            and value.decode().isprintable()
        ):
            return str(value.decode())
    return None
