"""A bounded number of places, a bounded queue, and an early refusal."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from app.errors import Overloaded
from app.places import Places


def test_the_caller_beyond_places_and_queue_is_refused_at_once() -> None:
    places = Places(2, max_waiting=0)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(places.place())
        with pytest.raises(Overloaded) as refused, places.place():
            pass
        assert refused.value.retry_after_seconds == 1
    with places.place():
        pass


def test_never_more_work_at_once_than_there_are_places() -> None:
    places, lock = Places(3, max_waiting=20), threading.Lock()
    working: list[int] = []
    now = 0
    gate = threading.Event()

    def work(number: int) -> None:
        nonlocal now
        with places.place():
            with lock:
                now += 1
                working.append(now)
                if now == 3:
                    gate.set()
            gate.wait(5)
            with lock:
                now -= 1

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(work, range(20)))
    assert max(working) == 3
    assert len(working) == 20, "those who waited were let in"


def test_one_who_waits_is_let_in_when_a_place_is_free() -> None:
    places, inside = Places(1, max_waiting=1), threading.Event()

    def wait() -> None:
        with places.place():
            inside.set()

    with places.place():
        thread = threading.Thread(target=wait)
        thread.start()
        assert not inside.wait(0.05)
    thread.join(5)
    assert inside.is_set()


def test_an_error_gives_the_place_back() -> None:
    places = Places(1, max_waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), places.place():
            raise ZeroDivisionError
    with places.place():
        pass


def test_a_refusal_takes_no_place() -> None:
    places = Places(1, max_waiting=0)
    with places.place():
        for _ in range(5):
            with pytest.raises(Overloaded), places.place():
                pass
    with places.place():
        pass
