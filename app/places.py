"""A bounded number of places for work, and a bounded queue before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Overloaded


class Places:
    """At most `n` callers work at once and `max_waiting` wait; the next is refused.

    Refusing early keeps the wait of those who are let in short (a queue without end turns overload into
    time-outs for everyone). Those who wait do so on the event loop: a thread that waits is missing to those
    who work, and with enough of them no one gets on.
    """

    def __init__(self, n: int, max_waiting: int) -> None:
        self._free = asyncio.Semaphore(n)
        self._room = n + max_waiting

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for a place and holds it. Raises Overloaded when the queue is full."""
        if self._room <= 0:
            raise Overloaded("Too many requests are waiting; try again in a moment.", retry_after_seconds=1)
        self._room -= 1
        try:
            async with self._free:
                yield
        finally:
            self._room += 1


class PlacesMiddleware:
    """Holds a place for as long as a request to one of these paths is answered, streams included."""

    def __init__(self, app: ASGIApp, places: Places, paths: frozenset[str]) -> None:
        self.app = app
        self.places = places
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self.paths:
            await self.app(scope, receive, send)
            return
        async with self.places.place():
            await self.app(scope, receive, send)
