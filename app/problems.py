"""RFC 9457 problem details: one table from error class to status, and the rendering of any error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from app.db import errors as db
from app.errors import (
    Conflict,
    FootnoteError,
    Forbidden,
    Gone,
    InvalidRequest,
    KeyInUse,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    Unavailable,
)
from app.generation.errors import GenerationError
from app.logs import request_id
from app.outages import is_storage_full
from indexing.errors import (
    IndexDamaged,
    IndexingError,
    IndexMissing,
    IndexOutdated,
    LanguageModelError,
    LoadError,
)
from retrievers.errors import ModeUnavailable

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

INDEX_ADVICE = (
    "The index of this collection cannot be used; `footnote index verify` says why, and "
    "`footnote index repair` makes it anew from the database."
)

NO_JSON = "The body is read as JSON only where the request says `Content-Type: application/json`."

RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
"""What the description of the API says of every error."""

STATUS: Mapping[type[Exception], int] = {
    NotFound: 404,
    Conflict: 409,
    Gone: 410,
    InvalidRequest: 422,
    ModeUnavailable: 422,
    db.NotFound: 404,
    db.Conflict: 409,
    db.InvalidValue: 422,
    Forbidden: 403,
    PayloadTooLarge: 413,
    Overloaded: 503,
    Unavailable: 503,
    LoadError: 422,
    LanguageModelError: 502,
    IndexingError: 503,
    GenerationError: 502,
    db.DatabaseError: 503,
    OperationalError: 503,
}
"""The nearest class in an error's own order of bases decides."""


class ProblemOut(BaseModel):
    """An error after RFC 9457."""

    type: str = Field(description="A URN that ends with the code")
    title: str = Field(description="The phrase of the status")
    status: int
    code: str = Field(description="Stable, for programs")
    detail: str = Field(description="For people")
    request_id: str | None = Field(description="As in the header X-Request-ID")
    errors: list[dict[str, str]] = Field(
        default_factory=list, description="Each field that is wrong: its `pointer`, and its `detail`"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a client is told of an error."""

    status: int
    code: str
    detail: str
    errors: tuple[Mapping[str, Any], ...] = ()
    retry_after_seconds: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": f"urn:footnote:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            # A name that a client sent may hold a lone surrogate, which is no UTF-8.
            "detail": self.detail.encode("utf-8", "backslashreplace").decode(),
            "request_id": request_id.get(),
        }
        return body | ({"errors": list(self.errors)} if self.errors else {})

    def response(self) -> JSONResponse:
        headers = dict(self.headers)
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(self.retry_after_seconds)
        return JSONResponse(self.body(), self.status, headers=headers, media_type=MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """The problem that describes an error; one without a row is `internal_error` and says no more."""
    if isinstance(error, RequestValidationError):
        if isinstance(error.body, bytes):  # of another media type, so that nobody has read it
            return Problem(status=422, code="invalid_request", detail=NO_JSON)
        errors = tuple(
            {"pointer": "/" + "/".join(str(part) for part in item["loc"]), "detail": item["msg"]}
            for item in error.errors()
        )
        summary = "; ".join(f"{item['pointer']}: {item['detail']}" for item in errors)
        return Problem(status=422, code="invalid_request", detail=summary, errors=errors)
    if isinstance(error, HTTPException):
        return Problem(
            status=error.status_code,
            code=_HTTP_CODES.get(error.status_code, "http_error"),
            detail=str(error.detail),
            headers=error.headers or {},
        )
    if is_storage_full(error):
        logger.error("disk full", exc_info=error, extra={"action": "storage_full"})
        return Problem(
            status=507,
            code="storage_full",
            detail="There is no room left on the service's disk.",
            retry_after_seconds=30,
        )
    if isinstance(error, MemoryError):
        logger.error("out of memory", exc_info=error, extra={"action": "out_of_memory"})
        return Problem(
            status=503,
            code="out_of_memory",
            detail="The service is short of memory; FOOTNOTE_SERVER_MEMORY_BYTES is its ceiling.",
            retry_after_seconds=5,
        )
    status = next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), None)
    if status is None:
        logger.error("unexpected error", exc_info=error, extra={"action": "unexpected_error"})
        return Problem(
            status=500,
            code="internal_error",
            detail="Something went wrong; the log has the details under this request id.",
        )
    if isinstance(error, IndexMissing | IndexDamaged | IndexOutdated):
        # The message names files, which are none of a client's business.
        logger.error("index not usable", exc_info=error, extra={"action": "index_error"})
        return Problem(status=status, code=error.code, detail=INDEX_ADVICE)
    if isinstance(error, OperationalError):
        logger.error("database not reachable", exc_info=error, extra={"action": "database_error"})
        return Problem(
            status=503,
            code="database_unavailable",
            detail="The database cannot be reached.",
            retry_after_seconds=5,
        )
    retry_after = error.retry_after_seconds if isinstance(error, Overloaded | KeyInUse) else None
    return Problem(
        status=status,
        code=getattr(error, "code", "error"),
        detail=str(error),
        retry_after_seconds=retry_after,
    )


_HTTP_CODES = {
    400: "bad_request",
    404: "route_not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
}


def install(app: FastAPI) -> None:
    """Makes every error of the service leave as problem+json."""

    def render(_: Request, error: Exception) -> JSONResponse:
        return problem_of(error).response()

    for cls in (*STATUS, RequestValidationError, HTTPException, FootnoteError, Exception):
        app.add_exception_handler(cls, render)
    _describe(app)


def _describe(app: FastAPI) -> None:
    """Adds the shape that `RESPONSES` names to the description of the API."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        described = made()
        described["components"]["schemas"].setdefault("Problem", ProblemOut.model_json_schema())
        return described

    app.openapi = openapi  # type: ignore[method-assign]
