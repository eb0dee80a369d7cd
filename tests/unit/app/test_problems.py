"""Any error as a problem: the right status, a stable code, and nothing that is not for the client."""

from __future__ import annotations

import errno
import inspect
import json
import logging
from collections.abc import Iterator
from types import ModuleType
from typing import get_args

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError, OperationalError
from starlette.exceptions import HTTPException

import app.db.errors
import app.errors
import app.generation.errors
import indexing.errors
import retrievers.errors
from app.api.middleware import RequestIdMiddleware
from app.problems import INDEX_ADVICE, install, problem_of
from indexing.errors import (
    IndexDamaged,
    IndexMissing,
    IndexOutdated,
    LanguageModelError,
    LanguageModelErrorKind,
    LoadError,
    LoadErrorCode,
)

SECRET = "password=hunter2"

STATUS: dict[str, int] = {
    # app.errors
    "not_found": 404,
    "conflict": 409,
    "idempotency_key_in_use": 409,
    "gone": 410,
    "invalid_request": 422,
    "payload_too_large": 413,
    "overloaded": 503,
    "unavailable": 503,
    # app.db.errors
    "database_error": 503,
    "database_url": 503,
    "schema_error": 503,
    "schema_missing": 503,
    "schema_behind": 503,
    "schema_unknown": 503,
    "collection_not_found": 404,
    "forbidden": 403,
    "document_not_found": 404,
    "revision_not_found": 404,
    "job_not_found": 404,
    "index_version_not_found": 404,
    "deletion_not_found": 404,
    "golden_question_not_found": 404,
    "collection_exists": 409,
    "collection_in_use": 409,
    "job_not_retryable": 409,
    "job_not_cancellable": 409,
    "index_version_not_ready": 409,
    "index_version_active": 409,
    "invalid_value": 422,
    "invalid_text": 422,
    "invalid_metadata": 422,
    "invalid_cursor": 422,
    "invalid_filter": 422,
    # retrievers.errors
    "mode_unavailable": 422,
    # indexing.errors
    "indexing_error": 503,
    "device_missing": 503,
    "encoder_error": 503,
    "index_error": 503,
    "index_missing": 503,
    "index_damaged": 503,
    "index_outdated": 503,
    "encoder_mismatch": 503,
    # app.generation.errors
    "generation_error": 502,
    "llm_timeout": 502,
    "llm_rate_limited": 502,
    "llm_unavailable": 502,
    "llm_rejected": 502,
    "llm_bad_response": 502,
}


def errors_of(module: ModuleType) -> Iterator[type[Exception]]:
    for _, cls in inspect.getmembers(module, inspect.isclass):
        if issubclass(cls, Exception) and cls.__module__ == module.__name__:
            yield cls


MODULES = (app.errors, app.db.errors, indexing.errors, app.generation.errors, retrievers.errors)
ERRORS = [
    cls
    for module in MODULES
    for cls in errors_of(module)
    # The base of the service's errors is never raised itself; two have codes by what went wrong.
    if cls not in (app.errors.FootnoteError, LoadError, LanguageModelError)
]


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_error_with_a_name_has_its_status_and_code(cls: type[Exception]) -> None:
    problem = problem_of(cls("what a person should know"))
    code = cls.code  # type: ignore[attr-defined]
    detail = (
        INDEX_ADVICE if cls in (IndexMissing, IndexDamaged, IndexOutdated) else "what a person should know"
    )
    assert (problem.code, problem.status, problem.detail) == (code, STATUS[code], detail)
    assert problem.body()["type"] == f"urn:footnote:problem:{code}"


@pytest.mark.parametrize("code", get_args(LoadErrorCode))
def test_a_file_that_cannot_be_read_is_the_clients(code: LoadErrorCode) -> None:
    problem = problem_of(LoadError(code, "page 3"))
    assert (problem.status, problem.code, problem.detail) == (422, code, "page 3")


@pytest.mark.parametrize("kind", get_args(LanguageModelErrorKind))
def test_a_language_model_that_fails_is_a_bad_gateway(kind: LanguageModelErrorKind) -> None:
    problem = problem_of(LanguageModelError(kind, "after 3 tries"))
    assert (problem.status, problem.code, problem.detail) == (
        STATUS[f"llm_{kind}"],
        f"llm_{kind}",
        "after 3 tries",
    )


def test_a_code_of_ones_own_wins() -> None:
    problem = problem_of(app.errors.NotFound("no text yet", code="text_not_ready"))
    assert (problem.status, problem.code) == (404, "text_not_ready")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(SECRET),
        KeyError(SECRET),
        ValueError(SECRET),
        IntegrityError(SECRET, {}, Exception(SECRET)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_unexpected_says_no_more_than_that(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        problem = problem_of(error)
    assert (problem.status, problem.code) == (500, "internal_error")
    assert SECRET not in json.dumps(problem.body())
    assert SECRET in caplog.text, "the log has it"


def test_a_database_that_is_away_is_told_without_its_address(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        problem = problem_of(OperationalError(SECRET, {}, Exception(SECRET)))
    assert (problem.status, problem.code, problem.retry_after_seconds) == (503, "database_unavailable", 5)
    assert SECRET not in json.dumps(problem.body())


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "bad_request"), (404, "route_not_found"), (405, "method_not_allowed"), (418, "http_error")],
)
def test_errors_of_the_framework_are_problems_too(status: int, code: str) -> None:
    problem = problem_of(HTTPException(status, "so it is"))
    assert (problem.status, problem.code, problem.detail) == (status, code, "so it is")


class Body(BaseModel):
    """What the route below takes."""

    top_k: int
    name: str = ""


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A service that does nothing but fail."""
    from prometheus_client import CollectorRegistry

    service = FastAPI()
    service.add_middleware(RequestIdMiddleware, registry=CollectorRegistry())
    install(service)

    @service.post("/take")
    def take(body: Body) -> Body:
        return body

    @service.get("/crash")
    def crash() -> None:
        raise RuntimeError(SECRET)

    @service.get("/busy")
    def busy() -> None:
        raise app.errors.Overloaded("Too many.", retry_after_seconds=7)

    with TestClient(service, raise_server_exceptions=False) as client:
        yield client


def test_the_body_of_a_problem(client: TestClient) -> None:
    """A golden body: a client may rely on each of these fields."""
    reply = client.post("/take", json={"top_k": "many"}, headers={"X-Request-ID": "r-1"})
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json() == {
        "type": "urn:footnote:problem:invalid_request",
        "title": reply.json()["title"],
        "status": 422,
        "code": "invalid_request",
        "detail": "/body/top_k: Input should be a valid integer, unable to parse string as an integer",
        "request_id": "r-1",
        "errors": [
            {
                "pointer": "/body/top_k",
                "detail": "Input should be a valid integer, unable to parse string as an integer",
            }
        ],
    }
    # RFC 9110 renamed it, and so did Python 3.13.
    assert reply.json()["title"] in ("Unprocessable Entity", "Unprocessable Content")


def test_a_crash_is_a_problem_with_the_requests_id(client: TestClient) -> None:
    reply = client.get("/crash", headers={"X-Request-ID": "r-2"})
    assert (reply.status_code, reply.json()["code"]) == (500, "internal_error")
    assert reply.headers["content-type"] == "application/problem+json"
    assert SECRET not in reply.text
    assert reply.json()["request_id"] == reply.headers.get("x-request-id") == "r-2"


def test_a_busy_service_says_when_to_come_back(client: TestClient) -> None:
    reply = client.get("/busy")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "7")


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"[]", b'"text"', b"\xff\xfe", b"[" * 100_000],
    ids=["cut off", "nothing", "a list", "a string", "no UTF-8", "deeply nested"],
)
def test_a_body_that_is_none_is_a_problem(client: TestClient, body: bytes) -> None:
    reply = client.post("/take", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] in ("invalid_request", "bad_request")


def test_a_long_or_odd_request_id_is_not_taken_over(client: TestClient) -> None:
    for odd in ("x" * 129, "a\tb", ""):
        given = client.get("/busy", headers={"X-Request-ID": odd}).json()["request_id"]
        assert given != odd
        assert len(given) == 32


def test_a_full_disk_is_named_and_no_path_is_told() -> None:
    problem = problem_of(OSError(errno.ENOSPC, "No space left on device", "/srv/secret"))
    assert (problem.status, problem.code) == (507, "storage_full")
    assert "/srv" not in problem.detail
    assert "/srv" not in problem_of(IndexMissing("no manifest in /srv/secret")).detail


def test_a_service_at_its_ceiling_asks_to_come_again() -> None:
    response = problem_of(MemoryError()).response()
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
