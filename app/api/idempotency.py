"""`Idempotency-Key`: a POST that is repeated under its key is done once and answered twice.

    first request                    the key is reserved, the work done, the answer kept, then sent
    the same again                   the kept answer, with `Idempotency-Replayed: true`
    the same while the first runs    409 `idempotency_key_in_use`, with Retry-After
    another request, the same key    422 `idempotency_key_reused`

Kept are the answers of what was done (2xx). A refusal changed nothing and an error of the service can be
tried again, so both give the key back. The key of a process that died is free when its lease ends.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.db import idempotency
from app.db.tables import IdempotencyKeyRow
from app.db.types import utc_now
from app.errors import Gone, InvalidRequest, KeyInUse, NotFound
from app.ids import parse_id
from indexing.files import checkpoint

if TYPE_CHECKING:
    from datetime import timedelta

    from app.services import Services

HEADER = b"idempotency-key"
MAX_KEY_LENGTH = 255
LEASE_SECONDS = 15.0
COLLECT_EVERY_SECONDS = 600.0


class RequestHash:
    """The hash of a body that passes by in pieces.

    A form's boundary is made up for each attempt, by curl as by libraries, and says nothing: the length of
    what is before it stands in its place, so that the same form sent again is the same, and no other is.
    """

    def __init__(self, content_type: str) -> None:
        self._digest = sha256()
        self._boundary = _boundary_of(content_type)
        self._rest = b""
        self._n_bytes = 0

    def update(self, piece: bytes) -> None:
        if not self._boundary:
            self._digest.update(piece)
            return
        text, start = self._rest + piece, 0
        while (found := text.find(self._boundary, start)) >= 0:
            self._take(text[start:found])
            self._end_part()
            start = found + len(self._boundary)
        # The end may be the beginning of a boundary that goes on in the next piece.
        keep = max(start, len(text) - len(self._boundary) + 1)
        self._take(text[start:keep])
        self._rest = text[keep:]

    def hexdigest(self) -> str:
        """To be asked once, at the end."""
        if self._boundary:
            self._take(self._rest)
            self._end_part()
        return self._digest.hexdigest()

    def _take(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._n_bytes += len(piece)

    def _end_part(self) -> None:
        self._digest.update(self._n_bytes.to_bytes(8, "big"))
        self._n_bytes = 0


class IdempotencyMiddleware:
    """Answers a POST under a key once. `exempt` are paths that change nothing: there the key is ignored."""

    def __init__(self, app: ASGIApp, services: Services, keep: timedelta, exempt: frozenset[str]) -> None:
        self.app = app
        self.services = services
        self.keep = keep
        self.exempt = exempt
        self._collected = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] in self.exempt:
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(HEADER)
        if given is None:
            await self.app(scope, receive, send)
            return
        key = _checked(given)
        body = _Body(receive, RequestHash(headers.get(b"content-type", b"").decode("latin-1")))
        query = scope["query_string"].decode("latin-1")
        path = f"{scope['path']}?{query}" if query else scope["path"]
        holder = uuid4().hex
        reserved = await run_in_threadpool(self._reserve, key, scope["method"], path, holder)
        if reserved.is_mine:
            await self._work(scope, body, send, key, holder)
            return
        await body.drain()
        await _answer_again(reserved.row, scope["method"], path, body.hash.hexdigest())(scope, receive, send)

    async def _work(self, scope: Scope, body: _Body, send: Send, key: str, holder: str) -> None:
        answer = _Answer(send)
        try:
            async with self._renewing(key, holder):
                await self.app(scope, body.receive, answer.send)
                await body.drain()  # what the route did not read belongs to the request all the same
        except Exception:
            await run_in_threadpool(self._in_session, idempotency.release, key, holder)
            raise
        checkpoint("idempotency-worked")
        if answer.is_kept:
            await run_in_threadpool(
                self._in_session,
                idempotency.complete,
                key,
                holder,
                request_hash=body.hash.hexdigest(),
                status_code=answer.status,
                response={"content_type": answer.content_type, "body": answer.body.decode()},
                document_id=_document_of(answer.body),
            )
        else:
            await run_in_threadpool(self._in_session, idempotency.release, key, holder)
        checkpoint("idempotency-kept")
        for message in answer.messages:
            await send(message)

    @asynccontextmanager
    async def _renewing(self, key: str, holder: str) -> AsyncIterator[None]:
        """Keeps the lease while the block runs: a large upload takes longer than a lease."""
        task = asyncio.create_task(self._renew(key, holder))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _renew(self, key: str, holder: str) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            with suppress(OperationalError):  # tried again before the lease ends
                await run_in_threadpool(
                    self._in_session, idempotency.renew, key, holder, lease_seconds=LEASE_SECONDS
                )

    def _reserve(self, key: str, method: str, path: str, holder: str) -> idempotency.Reserved:
        with self.services.write() as session:
            if time.monotonic() - self._collected > COLLECT_EVERY_SECONDS:
                idempotency.forget_old(session, before=utc_now() - self.keep)
                self._collected = time.monotonic()
            return idempotency.reserve(
                session, key, method=method, path=path, holder=holder, lease_seconds=LEASE_SECONDS
            )

    def _in_session(self, step: Callable[..., None], *args: Any, **named: Any) -> None:
        with self.services.write() as session:
            step(session, *args, **named)


class _Body:
    """The request's body, hashed as it is read."""

    def __init__(self, receive: Receive, request_hash: RequestHash) -> None:
        self.hash = request_hash
        self._receive = receive
        self._ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self.hash.update(message.get("body", b""))
            self._ended = not message.get("more_body", False)
        elif message["type"] == "http.disconnect":
            self._ended = True
        return message

    async def drain(self) -> None:
        while not self._ended:
            await self.receive()


class _Answer:
    """A response, held back until it is kept; what is no JSON is a stream or a file, and passes through."""

    def __init__(self, send: Send) -> None:
        self.messages: list[Message] = []
        self.status, self.content_type, self.body = 500, "", b""
        self._send = send

    @property
    def is_json(self) -> bool:
        return "json" in self.content_type

    @property
    def is_kept(self) -> bool:
        return self.is_json and 200 <= self.status < 300

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.content_type = bytes(dict(message["headers"]).get(b"content-type", b"")).decode("latin-1")
        if not self.is_json:
            await self._send(message)
            return
        self.messages.append(message)
        self.body += message.get("body", b"")


def _answer_again(row: IdempotencyKeyRow, method: str, path: str, request_hash: str) -> Response:
    """The kept answer. Raises InvalidRequest, KeyInUse and Gone where there is none to give."""
    is_other = (row.method, row.path) != (method, path)
    if is_other or (row.status_code is not None and row.request_hash != request_hash):
        raise InvalidRequest(
            "This Idempotency-Key was used for another request; take a new one.",
            code="idempotency_key_reused",
        )
    if row.status_code is None:
        ends = row.lease_expires_at or utc_now()
        seconds = max(1, math.ceil((ends - utc_now()).total_seconds()))
        raise KeyInUse(
            "The first request with this Idempotency-Key is still worked on.",
            retry_after_seconds=min(seconds, math.ceil(LEASE_SECONDS)),
        )
    if row.response is None:
        raise Gone("What this request made was deleted since.", code="document_deleted")
    return Response(
        row.response["body"].encode(),
        row.status_code,
        headers={"Idempotency-Replayed": "true"},
        media_type=row.response["content_type"],
    )


def _checked(given: bytes) -> str:
    if 1 <= len(given) <= MAX_KEY_LENGTH and given.isascii() and given.decode().isprintable():
        return given.decode()
    raise InvalidRequest(
        f"An Idempotency-Key has 1 to {MAX_KEY_LENGTH} printable ASCII characters.",
        code="invalid_idempotency_key",
    )


def _boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart form; empty for anything else.

    >>> _boundary_of('multipart/form-data; boundary="x y"')
    b'x y'
    """
    kind, *parameters = content_type.split(";")
    if not kind.strip().lower().startswith("multipart/"):
        return b""
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "boundary":
            return value.strip('"').encode("latin-1")
    return b""


def _document_of(body: bytes) -> int | None:
    """The document that an answer is about, so that it can be redacted with it."""
    answer = json.loads(body) if body else None
    if not isinstance(answer, dict):
        return None
    document = answer.get("document")
    found = document.get("id") if isinstance(document, dict) else answer.get("document_id")
    try:
        return parse_id(found, "document") if isinstance(found, str) else None
    except NotFound:
        return None
