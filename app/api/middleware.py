"""Plain ASGI middleware: a request id on every response, and a bound on the work taken at once."""

from __future__ import annotations

import logging
import time
from ipaddress import ip_address
from urllib.parse import urlsplit
from uuid import uuid4

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Forbidden
from app.logs import request_id
from app.problems import problem_of

logger = logging.getLogger(__name__)


CLIENT_CLOSED_REQUEST = 499
"""For logs and counts alone, as nginx has it."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SAFETY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


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
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST  # no one is left to be answered
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
        method = (
            scope["method"] if scope["method"] in METHODS else "OTHER"
        )  # a label each would be without end
        self.requests.labels(method, route, status).inc()
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


class HeadMiddleware:
    """Answers HEAD as GET without the body (RFC 9110, 9.3.2); a stream ends before it begins."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}  # a copy: the server goes by its own

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})

        try:
            await self.app(asked, receive, send_head)
        finally:
            scope["route"] = asked.get("route")


class GuardMiddleware:
    """Keeps other web sites from using a visitor's browser against the service.

    A request whose Host is none of `hosts` is refused (a name that an attacker points at this machine); so is
    a write that a page of another origin sends. With no `hosts` any name is right, as behind a proxy.
    Addresses are always right: a browser cannot be led to one by a name.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
            self._check(scope["method"], headers.get(b"host", ""), headers.get(b"origin"))

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *SAFETY_HEADERS]
            await send(message)

        await self.app(scope, receive, send_guarded)

    def _check(self, method: str, host: str, origin: str | None) -> None:
        if self.hosts and not self._is_right(host):
            raise Forbidden("This host name is not one of the service's.", code="host_not_allowed")
        if (
            origin is not None
            and method not in ("GET", "HEAD", "OPTIONS")
            and urlsplit(origin).netloc != host
        ):
            raise Forbidden("A page of another origin may not write here.", code="origin_not_allowed")

    def _is_right(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        try:
            ip_address(name)
        except ValueError:
            return name in self.hosts
        return True


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
