"""A bounded number of places, a bounded queue, and an early refusal."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import Overloaded
from app.places import Places


def test_the_caller_beyond_places_and_queue_is_refused_at_once() -> None:
    async def scenario() -> None:
        places = Places(1, max_waiting=0)
        async with places.place():
            with pytest.raises(Overloaded) as refused:
                async with places.place():
                    pass
            assert refused.value.retry_after_seconds == 1
        async with places.place():
            pass

    asyncio.run(scenario())


def test_never_more_work_at_once_than_there_are_places_and_all_who_wait_come_in() -> None:
    working, most, done = 0, 0, 0

    async def work(places: Places) -> None:
        nonlocal working, most, done
        async with places.place():
            working += 1
            most = max(most, working)
            await asyncio.sleep(0.001)
            working -= 1
            done += 1

    async def scenario() -> None:
        places = Places(3, max_waiting=20)
        await asyncio.gather(*(work(places) for _ in range(23)))

    asyncio.run(scenario())
    assert (most, done) == (3, 23)


def test_a_place_is_free_again_after_an_error_and_after_a_caller_that_went_away() -> None:
    async def fail(places: Places) -> None:
        async with places.place():
            raise ValueError("work failed")

    async def scenario() -> None:
        places = Places(1, max_waiting=1)
        with pytest.raises(ValueError, match="work failed"):
            await fail(places)
        async with places.place():
            waiting = asyncio.create_task(fail(places))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        async with asyncio.timeout(1), places.place():
            pass

    asyncio.run(scenario())
