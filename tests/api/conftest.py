"""The service under test, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.services import Services
from tests.service import running_service, send_text, work


@dataclass(frozen=True, slots=True)
class Service:
    """What the tests talk to."""

    client: TestClient
    services: Services

    def send(self, text: str, source: str, **fields: Any) -> dict[str, Any]:
        """Sends a text in and works until it is searchable."""
        body = send_text(self.client, text, source, **fields)
        work(self.services)
        shown: dict[str, Any] = self.client.get(f"/v1/documents/{body['document']['id']}").json()
        return shown

    def sources(self, query: str, **fields: Any) -> list[str]:
        """The sources of the hits, best first."""
        reply = self.client.post("/v1/search", json={"query": query, **fields})
        assert reply.status_code == 200, reply.text
        return [hit["source"] for hit in reply.json()["hits"]]


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path / "home", database_url) as (client, services):
        yield Service(client, services)
