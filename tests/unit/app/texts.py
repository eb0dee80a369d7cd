"""Texts for the service's own tests, and how they get in."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

from app import intake
from app.db import collections
from app.searching import SearchRequest, search
from app.services import Services
from retrievers.types import Mode
from tests.service import work

PAGES = {
    "leases.md": "# Leases\n\nA job returns to the queue when its lease ends. The worker renews the lease.\n",
    "fusion.md": "# Fusion\n\nThe convex combination weighs the dense score by alpha.\n",
    "tea.md": "# Tea\n\nWarm the pot before the leaves go in. Green tea wants cooler water.\n",
}


def submit(services: Services, source: str, text: str, **fields: object) -> intake.Accepted:
    """Takes a text in; no one works on it yet."""
    submission = intake.Submission(filename=source, **fields)  # type: ignore[arg-type]
    return intake.submit(services, submission, BytesIO(text.encode()))


def ingest(services: Services, texts: Mapping[str, str]) -> dict[str, int]:
    """Makes texts searchable; gives the documents' ids by source."""
    accepted = {source: submit(services, source, text) for source, text in texts.items()}
    work(services)
    return {source: item.document.id for source, item in accepted.items()}


def collection_id(services: Services, name: str = "default") -> int:
    with services.read() as session:
        return collections.get_by_name(session, name).id


def sources(services: Services, query: str, *, top_k: int = 10, mode: Mode = "auto") -> list[str]:
    """The sources of the hits, best first."""
    found = search(services, SearchRequest(query=query, top_k=top_k, mode=mode))
    return [passage.source for passage in found.passages]
