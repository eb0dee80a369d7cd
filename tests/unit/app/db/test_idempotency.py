"""A request that is repeated under its key gets the first answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.db import idempotency

NOW = datetime(2024, 5, 1, tzinfo=UTC)
REQUEST = {"method": "POST", "path": "/v1/documents", "request_hash": "a" * 64}


def test_the_first_takes_the_key_and_the_next_gets_its_answer(session):
    assert idempotency.reserve(session, "k", **REQUEST).is_new
    waiting = idempotency.reserve(session, "k", **REQUEST)
    assert not waiting.is_new
    assert waiting.row.status_code is None
    idempotency.complete(session, "k", status_code=202, response={"id": "1"})
    again = idempotency.reserve(session, "k", **REQUEST | {"request_hash": "b" * 64})
    assert not again.is_new
    assert (again.row.status_code, again.row.response, again.row.request_hash) == (202, {"id": "1"}, "a" * 64)


def test_a_failed_request_gives_its_key_back(session):
    idempotency.reserve(session, "k", **REQUEST)
    idempotency.release(session, "k")
    assert idempotency.reserve(session, "k", **REQUEST).is_new


def test_an_answer_is_not_given_back(session):
    idempotency.reserve(session, "k", **REQUEST)
    idempotency.complete(session, "k", status_code=200, response=None)
    idempotency.release(session, "k")
    assert not idempotency.reserve(session, "k", **REQUEST).is_new


def test_keys_are_forgotten_in_time(session):
    idempotency.reserve(session, "old", now=NOW, **REQUEST)
    idempotency.reserve(session, "new", now=NOW + timedelta(hours=1), **REQUEST)
    assert idempotency.forget_old(session, before=NOW + timedelta(minutes=1)) == 1
    assert not idempotency.reserve(session, "new", **REQUEST).is_new
