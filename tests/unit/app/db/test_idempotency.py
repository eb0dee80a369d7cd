"""A request that is repeated under its key gets the first answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.db import idempotency, removal

NOW = datetime(2024, 5, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=20)
REQUEST = {"method": "POST", "path": "/v1/documents", "lease_seconds": 15.0}
ANSWER = {"request_hash": "a" * 64, "status_code": 202, "response": {"body": "{}"}}


@pytest.fixture
def reserve(session):
    def reserve(key="k", holder="first", now=NOW, **others):
        return idempotency.reserve(session, key, holder=holder, now=now, **(REQUEST | others))

    return reserve


def test_the_first_takes_the_key_and_the_next_gets_its_answer(session, reserve):
    assert reserve().is_mine
    waiting = reserve(holder="second")
    assert (waiting.is_mine, waiting.row.status_code) == (False, None)
    idempotency.complete(session, "k", "first", **ANSWER)
    again = reserve(holder="third", now=LATER)
    assert not again.is_mine
    assert (again.row.status_code, again.row.response, again.row.request_hash) == (
        202,
        {"body": "{}"},
        "a" * 64,
    )


def test_a_failed_request_gives_its_key_back(session, reserve):
    reserve()
    idempotency.release(session, "k", "second")
    assert not reserve(holder="second").is_mine, "only its holder can give a key back"
    idempotency.release(session, "k", "first")
    assert reserve(holder="second").is_mine


def test_an_answer_is_not_given_back(session, reserve):
    reserve()
    idempotency.complete(session, "k", "first", **ANSWER)
    idempotency.release(session, "k", "first")
    assert not reserve(holder="second").is_mine


def test_a_key_whose_holder_died_is_taken_over_when_the_lease_ends(session, reserve):
    reserve()
    assert not reserve(holder="second", now=NOW + timedelta(seconds=14)).is_mine
    assert not reserve(holder="second", now=LATER, path="/v1/collections").is_mine
    assert reserve(holder="second", now=LATER).is_mine
    idempotency.complete(session, "k", "first", **ANSWER)
    assert reserve(holder="third", now=LATER).row.status_code is None, "who lost the key cannot answer for it"


def test_a_key_whose_holder_died_does_not_wait_for_a_clock_that_was_set_back(session, reserve):
    reserve(holder="dead", now=NOW + timedelta(days=1))
    assert reserve(holder="next", now=NOW).is_mine


def test_a_lease_that_is_renewed_lasts(session, reserve):
    reserve()
    idempotency.renew(session, "k", "first", lease_seconds=15.0, now=NOW + timedelta(seconds=10))
    assert not reserve(holder="second", now=LATER).is_mine


def test_keys_are_forgotten_in_time(session, reserve):
    reserve("old")
    reserve("new", now=NOW + timedelta(hours=1))
    assert idempotency.forget_old(session, before=NOW + timedelta(minutes=1)) == 1
    assert not reserve("new", holder="second", now=NOW + timedelta(hours=1)).is_mine


def test_what_an_answer_says_of_a_deleted_document_goes_and_the_key_stays(session, reserve, upload):
    document_id = upload().document.id
    reserve()
    idempotency.complete(session, "k", "first", **ANSWER, document_id=document_id)
    assert idempotency.redact(session, [document_id]) == 1
    kept = reserve(holder="second").row
    assert (kept.status_code, kept.response) == (202, None)


def test_an_answer_that_comes_after_the_deletion_is_not_kept(session, reserve, upload):
    document_id = upload().document.id
    reserve()
    removal.delete(session, document_id)
    idempotency.complete(session, "k", "first", **ANSWER, document_id=document_id)
    assert reserve(holder="second").row.response is None
