"""Trees of summaries."""

from __future__ import annotations

from pydantic import Field

from app.api.schemas.base import Response


class TreeOut(Response):
    collection: str
    model: str = Field(description="What wrote the summaries")
    levels: dict[int, int] = Field(description="How many summaries there are on each level")
    n_nodes: int
    behind: int = Field(description="Changes of the collection that the tree has not seen yet")
