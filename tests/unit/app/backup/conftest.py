"""Backups of a small service, and databases to restore them into."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from app.backup import restoring, writing
from app.backup.archive import SUMS, ArchiveWriter
from app.backup.restoring import Restored
from app.db import collections, documents
from app.documents import intake
from app.search.searching import SearchRequest, search
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


MakeEncoder = Callable[[], Encoder]
Edit = Callable[[dict[str, bytes]], object]
"""Changes the contents of an archive, by member, in place."""


def opened(settings: Settings, encoder: MakeEncoder = WordEncoder) -> AbstractContextManager[Services]:
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
    with services.read() as session:
        row = documents.get_by_source(session, collections.get_by_name(session, "default").id, source)
    assert row is not None
    return row.id


def back_up(settings: Settings, path: Path) -> Path:
    with opened(settings) as services:
        writing.back_up(services, path, say=quiet)
    return path


def restore(settings: Settings, path: Path, encoder: MakeEncoder = WordEncoder, **options: Any) -> Restored:
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


@pytest.fixture(scope="session")
def source_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A filled service on SQLite; nobody changes it."""
    settings = settings_for(tmp_path_factory.mktemp("backup") / "source", "")
    with opened(settings) as services:
        fill(services)
    return settings


@pytest.fixture(scope="session")
def archive(source_settings: Settings) -> Path:
    """A backup of it; nobody changes that either."""
    return back_up(source_settings, source_settings.home / "backup.tar")


def unpack(archive: Path) -> dict[str, bytes]:
    """What the members hold, by an independent reader; the checksums are left out."""
    with tarfile.open(archive) as tar:
        return {
            item.name: tar.extractfile(item).read()  # type: ignore[union-attr]
            for item in tar.getmembers()
            if item.name != SUMS
        }


def pack(contents: Iterable[tuple[str, bytes]], path: Path) -> Path:
    """An archive of these members, with checksums that agree."""
    with path.open("wb") as out, ArchiveWriter(out) as writer:
        for name, data in contents:
            writer.add(name, data)
        writer.close()
    return path


def edited(archive: Path, path: Path, edit: Edit) -> Path:
    """The archive with its contents edited, and the checksums of what it holds now."""
    contents = unpack(archive)
    edit(contents)
    last = contents.pop("manifest.json", None)
    tail = [] if last is None else [("manifest.json", last)]
    return pack([*contents.items(), *tail], path)


def edit_rows(table: str, edit: Callable[[list[Any], list[list[Any]]], object]) -> Edit:
    """Edits the columns and rows of the first part of a table in place."""

    def apply(contents: dict[str, bytes]) -> None:
        name = next(name for name in contents if name.startswith(f"tables/{table}/000000.jsonl"))
        raw = gzip.decompress(contents[name]) if name.endswith(".gz") else contents[name]
        columns, *rows = [json.loads(line) for line in raw.splitlines()]
        edit(columns, rows)
        raw = b"".join(json.dumps(line).encode() + b"\n" for line in (columns, *rows))
        contents[name] = gzip.compress(raw) if name.endswith(".gz") else raw

    return apply


def edit_json(name: str, **values: Any) -> Edit:
    """Sets fields of a JSON member."""

    def apply(contents: dict[str, bytes]) -> None:
        contents[name] = json.dumps(json.loads(contents[name]) | values).encode()

    return apply
