"""Backups of a small service, and databases to restore them into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from app import intake
from app.backup import restoring, writing
from app.backup.restoring import Restored
from app.db import collections
from app.searching import SearchRequest, search
from app.services import Services, open_services
from app.settings import Settings
from indexing.encoding.base import Encoder
from indexing.encoding.fake import WordEncoder
from tests.service import settings_for, work

TEXTS = {
    "leases.md": "# Leases\n\nA job returns to the queue when its lease ends. Größe, 雪, 🙂.\n",
    "fusion.md": "# Fusion\n\nThe convex combination weighs the dense score by alpha.\n",
    "tea.txt": "Warm the pot before the leaves go in. " * 100,
}


def quiet(_stage: str, _done: int, _total: int) -> None:
    """Says nothing."""


def opened(settings: Settings, encoder: Callable[[], Encoder] = WordEncoder) -> AbstractContextManager[Services]:
    return open_services(settings, load=lambda _spec, _dir: encoder())


def submit(services: Services, source: str, text: str, **fields: Any) -> None:
    intake.submit(services, intake.Submission(filename=source, **fields), BytesIO(text.encode()))


def fill(services: Services) -> None:
    """Documents in two collections, one of them replaced, one deleted, one pending, one failed."""
    with services.write() as session:
        collections.create(session, "notes", description="of mine", settings={"colour": "blue"})
    for source, text in TEXTS.items():
        submit(services, source, text, metadata={"kind": "page", "year": 2**53 + 1, "ok": True, "none": None})
    submit(services, "gone.txt", "This text is deleted before the backup.")
    submit(services, "note.txt", "A note of another collection.", collection="notes", title="Ein Titel")
    submit(services, "broken.pdf", "This is no PDF.")
    work(services)
    submit(services, "tea.txt", "Green tea wants cooler water than black tea.")
    work(services)
    intake.delete(services, _id_of(services, "gone.txt"))
    work(services)
    submit(services, "later.txt", "This text waits for a worker.")


def _id_of(services: Services, source: str) -> int:
    from app.db import documents

    with services.read() as session:
        row = documents.get_by_source(session, collections.get_by_name(session, "default").id, source)
    assert row is not None
    return row.id


def back_up(settings: Settings, path: Path) -> Path:
    with opened(settings) as services:
        writing.back_up(services, path, say=quiet)
    return path


def restore(settings: Settings, path: Path, encoder: Callable[[], Encoder] = WordEncoder, **options: Any) -> Restored:
    with path.open("rb") as source:
        return restoring.restore(
            settings, source, open_services=partial(opened, settings, encoder), say=quiet, **options
        )


def hits(services: Services) -> list[object]:
    """What searches find, with scores."""
    found: list[object] = []
    for collection in ("default", "notes"):
        for query in ("a job in the queue", "green tea", "note of another collection", "convex alpha"):
            for mode in ("bm25", "dense", "hybrid", "rrf"):
                request = SearchRequest(query=query, mode=mode, top_k=10, collection=collection)  # type: ignore[arg-type]
                passages = search(services, request).passages
                found.append([(hit.chunk.id, round(hit.score, 9), hit.chunk.text) for hit in passages])
    return found


@contextmanager
def service(settings: Settings) -> Iterator[Services]:
    with opened(settings) as services:
        yield services


@pytest.fixture
def source_settings(tmp_path: Path) -> Settings:
    """A filled service on SQLite."""
    settings = settings_for(tmp_path / "source", "")
    with opened(settings) as services:
        fill(services)
    return settings


@pytest.fixture
def archive(source_settings: Settings, tmp_path: Path) -> Path:
    return back_up(source_settings, tmp_path / "backup.tar")
