"""What the shapes of all requests and responses share.

Ids are strings of 16 hexadecimal digits outside the process.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Response(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


Metadata = dict[str, Any]

Filters = Annotated[
    dict[str, Any] | None,
    Field(
        description="Conditions on metadata, title, source and dates; see the manual's page on filters",
        examples=[{"year": {"$gte": 2020}, "$not": {"title": {"$like": "%draft%"}}}],
    ),
]

CollectionName = Annotated[
    str,
    Field(
        min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="The collection",
        examples=["default"],
    ),
]  # fmt: skip

TopK = Annotated[int | None, Field(ge=1, le=1000, description="How many to return", examples=[5])]


class ErrorBody(Response):
    code: str
    detail: str


def error_body(code: str | None, detail: str | None) -> ErrorBody | None:
    return ErrorBody(code=code, detail=detail or "") if code else None
