"""A POST repeated under its key is done once and answered twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.idempotency import RequestHash
from app.db import idempotency, jobs
from app.db.types import utc_now
from app.documents import intake
from tests.api.conftest import Service

TEA = {"text": "# Tea\n\nWarm the pot.", "source": "tea.md"}
KEY = {"Idempotency-Key": "one"}


def test_the_same_request_gets_the_same_answer_and_is_done_once(service: Service) -> None:
    first = service.client.post("/v1/documents", json=TEA, headers=KEY)
    again = service.client.post("/v1/documents", json=TEA, headers=KEY)
    assert (again.status_code, again.content) == (first.status_code, first.content) == (202, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["X-Request-ID"] != first.headers["X-Request-ID"]
    assert len(service.client.get("/v1/jobs").json()["data"]) == 1


def test_a_collection_is_made_once(service: Service) -> None:
    body = {"name": "papers"}
    assert service.client.post("/v1/collections", json=body).status_code == 201
    assert service.client.post("/v1/collections", json=body, headers=KEY).status_code == 409
    service.client.delete("/v1/collections/papers")
    made = service.client.post("/v1/collections", json=body, headers=KEY)
    again = service.client.post("/v1/collections", json=body, headers=KEY)
    assert (made.status_code, again.status_code) == (201, 201)
    assert made.json() == again.json()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/documents", {**TEA, "title": "Other"}),
        ("/v1/collections", {"name": "papers"}),
        ("/v1/documents?x=1", TEA),
    ],
    ids=["body", "path", "query"],
)
def test_a_key_is_good_for_one_request(service: Service, path: str, body: dict[str, str]) -> None:
    service.client.post("/v1/documents", json=TEA, headers=KEY)
    reply = service.client.post(path, json=body, headers=KEY)
    assert (reply.status_code, reply.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"], ids=["empty", "long", "unprintable"])
def test_a_key_that_is_none_is_refused(service: Service, key: str) -> None:
    reply = service.client.post("/v1/documents", json=TEA, headers={"Idempotency-Key": key})
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_idempotency_key")


def test_a_refused_request_gives_its_key_back(service: Service) -> None:
    refused = service.client.post("/v1/documents", json={"text": "x", "collection": "none"}, headers=KEY)
    assert refused.status_code == 404
    assert service.client.post("/v1/documents", json=TEA, headers=KEY).status_code == 202


def test_a_request_that_failed_by_the_service_can_be_repeated(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(intake, "submit", lambda *_: 1 / 0)
        assert service.client.post("/v1/documents", json=TEA, headers=KEY).status_code == 500
    assert service.client.post("/v1/documents", json=TEA, headers=KEY).status_code == 202


def test_a_form_is_the_same_under_another_boundary(service: Service) -> None:
    def send(boundary: str, text: bytes) -> tuple[int, bool]:
        body = (
            b"--%b\r\nContent-Disposition: form-data; name=file; filename=tea.txt\r\n\r\n%b\r\n--%b--\r\n"
            % (boundary.encode(), text, boundary.encode())
        )
        kind = f"multipart/form-data; boundary={boundary}"
        reply = service.client.post("/v1/documents", content=body, headers={**KEY, "Content-Type": kind})
        return reply.status_code, "Idempotency-Replayed" in reply.headers

    assert send("aaaaaaaa", b"Warm the pot.") == (202, False)
    assert send("bbbbbbbbbbbb", b"Warm the pot.") == (202, True)
    assert send("cccccccc", b"Cool the pot.") == (422, False)


@given(st.lists(st.binary(max_size=7)), st.lists(st.integers(0, 60)), st.binary(min_size=1, max_size=3))
def test_a_body_has_one_hash_however_it_comes_in(
    parts: list[bytes], cuts: list[int], boundary: bytes
) -> None:
    body = boundary.join(parts)
    named = boundary.decode("latin-1")
    if named != named.strip(' "\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0') or ";" in named:
        return
    in_pieces, whole = (RequestHash(f"multipart/form-data; boundary={named}") for _ in range(2))
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    for start, end in pairwise(places):
        in_pieces.update(body[start:end])
    whole.update(body)
    assert in_pieces.hexdigest() == whole.hexdigest() == _framed(body.split(boundary))


def _framed(parts: list[bytes]) -> str:
    return sha256(b"".join(part + len(part).to_bytes(8, "big") for part in parts)).hexdigest()


def test_forms_that_differ_where_a_boundary_stands_are_not_the_same() -> None:
    def hash_of(body: bytes) -> str:
        given = RequestHash("multipart/form-data; boundary=a")
        given.update(body)
        return given.hexdigest()

    bodies = [b"--a\r\n\r\nbanana\r\n--a--", b"--a\r\n\r\nbnn\r\n--a--", b"--a\r\n\r\nbaann\r\n--a--"]
    assert len({hash_of(body) for body in bodies}) == 3


def test_a_request_whose_first_still_runs_is_to_come_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    submit = intake.submit

    def slow(*arguments: object) -> object:
        begun.set()
        assert go_on.wait(30)
        return submit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(intake, "submit", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.client.post, "/v1/documents", json=TEA, headers=KEY)
        assert begun.wait(30)
        again = service.client.post("/v1/documents", json=TEA, headers=KEY)
        other = service.client.post("/v1/collections", json={"name": "papers"}, headers=KEY)
        go_on.set()
        assert first.result().status_code == 202
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_key_in_use")
    assert 1 <= int(again.headers["Retry-After"]) <= 15
    assert other.json()["code"] == "idempotency_key_reused"
    assert service.client.post("/v1/documents", json=TEA, headers=KEY).json() == first.result().json()


def test_sixteen_at_once_do_the_work_once(service: Service) -> None:
    def send(_: int) -> tuple[int, str]:
        while True:
            reply = service.client.post("/v1/documents", json=TEA, headers=KEY)
            if reply.status_code != 409:
                return reply.status_code, reply.text

    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(send, range(16)))
    assert len(answers) == 1
    with service.services.read() as session:
        assert sum(jobs.counts(session).values()) == 1


def test_a_key_of_a_process_that_died_is_free_when_its_lease_ends(service: Service) -> None:
    with service.services.write() as session:
        idempotency.reserve(
            session, "one", method="POST", path="/v1/documents", holder="dead", lease_seconds=0.2
        )
    replies = iter(lambda: service.client.post("/v1/documents", json=TEA, headers=KEY).status_code, 202)
    assert set(replies) <= {409}
    assert len(service.client.get("/v1/documents").json()["data"]) == 1


@pytest.mark.parametrize("area", ["retry", "cancel"])
def test_a_job_is_steered_once(service: Service, area: str) -> None:
    job = service.client.post("/v1/documents", json=TEA).json()["job"]["id"]
    if area == "retry":
        service.client.post(f"/v1/jobs/{job}/cancel")
    first = service.client.post(f"/v1/jobs/{job}/{area}", headers=KEY)
    again = service.client.post(f"/v1/jobs/{job}/{area}", headers=KEY)
    assert first.status_code == 200
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")


@pytest.mark.parametrize("path", ["/v1/search", "/v1/answer"])
def test_a_question_may_be_asked_again_under_any_key(service: Service, path: str) -> None:
    for query in ("warm", "pot", "pot"):
        reply = service.client.post(path, json={"query": query}, headers=KEY)
        assert reply.status_code == 200
        assert "Idempotency-Replayed" not in reply.headers


def test_keys_are_collected_after_their_time(service: Service, moved_clock: None) -> None:
    assert service.client.post("/v1/documents", json=TEA, headers=KEY).status_code == 202
    reply = service.client.post("/v1/documents", json=TEA, headers=KEY)
    assert "Idempotency-Replayed" not in reply.headers


@pytest.fixture
def moved_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is older than it may become, and looked for with every request."""
    monkeypatch.setattr("app.api.idempotency.COLLECT_EVERY_SECONDS", -1.0)
    monkeypatch.setattr("app.api.idempotency.utc_now", lambda: utc_now() + timedelta(hours=25))
