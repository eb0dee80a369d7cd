"""Health."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.api.schemas.base import Response


class Health(Response):
    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = Field(default_factory=dict)
