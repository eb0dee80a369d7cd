"""A whole service for tests: real database, worker, indexes and routes over an encoder without a model."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from app.main import create_app
from app.services import Services, open_services
from app.settings import DatabaseSettings, Settings, WorkerSettings
from app.worker import Worker
from indexing.encoding.fake import WordEncoder
from indexing.loaders import LoaderPool


def settings_for(home: Path, url: str, **areas: Any) -> Settings:
    """Settings that do not look at the environment of whoever runs the tests."""
    worker = WorkerSettings(loaders=1, poll_seconds=0.05)
    return Settings(**{"home": home, "database": DatabaseSettings(url=url), "worker": worker, **areas})


@contextmanager
def running_service(home: Path, url: str, **areas: Any) -> Iterator[tuple[TestClient, Services]]:
    """A client of a service over the database, and the service's parts. No worker runs: see `work`."""
    with open_services(settings_for(home, url, **areas), load=lambda _spec, _dir: WordEncoder()) as services:
        app = create_app(services)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client, services


@cache
def loaders() -> LoaderPool:
    """The child that reads the files of all tests of a process: a new one each time would take a second."""
    pool = LoaderPool()
    atexit.register(pool.close)
    return pool


def work(services: Services) -> None:
    """Does every job that is due, as a worker would."""
    Worker(services, name="test", loaders=loaders()).drain()


def send_text(client: TestClient, text: str, source: str, **fields: Any) -> dict[str, Any]:
    """The document and job of an accepted text."""
    reply = client.post("/v1/documents", json={"text": text, "source": source, **fields})
    assert reply.status_code in (200, 202), reply.text
    body: dict[str, Any] = reply.json()
    return body
