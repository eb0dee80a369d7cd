"""A bounded number of places for work, and a bounded queue before them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import Overloaded


class Places:
    """At most `n` callers work at once and `max_waiting` wait; the next is refused at once.

    Refusing early keeps the wait of those who are let in short (a queue without end turns overload into
    time-outs for everyone).
    """

    def __init__(self, n: int, max_waiting: int) -> None:
        self._free = threading.BoundedSemaphore(n)
        self._admitted = threading.BoundedSemaphore(n + max_waiting)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Waits for a place and holds it. Raises Overloaded when the queue is full."""
        if not self._admitted.acquire(blocking=False):
            raise Overloaded("Too many requests are waiting; try again in a moment.", retry_after_seconds=1)
        try:
            with self._free:
                yield
        finally:
            self._admitted.release()
