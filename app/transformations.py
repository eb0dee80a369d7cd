"""The transformations of a query that can be asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from app.errors import InvalidRequest
from retrievers.transformation.base import Transformation

if TYPE_CHECKING:
    from app.services import Services

Build = Callable[["Services"], Transformation]

TRANSFORMATIONS: Mapping[str, Build] = {}
"""By name, in the order in which they are told to people."""


def transformation(services: Services, name: str) -> Transformation:
    """Raises InvalidRequest: `unknown_transformation`, and `llm_not_configured` where no model is set."""
    build = TRANSFORMATIONS.get(name)
    if build is None:
        known = ", ".join(TRANSFORMATIONS) or "none is set up"
        raise InvalidRequest(f"There is no transformation {name!r}: {known}.", code="unknown_transformation")
    return build(services)
