"""Ingesting a batch of documents: load → chunk → encode what is new → save → commit to the index → ready.

Every step can run twice: chunk ids and vectors depend on the text alone, the index commit reconciles, and a
revision that is published already is left as it is. So a job whose worker was killed is simply run again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from app import building
from app.db import chunks, documents
from app.db.documents import RevisionFile
from app.db.errors import DocumentNotFound, RevisionNotFound
from app.db.tables import JobRow
from app.intake import remove_files
from app.preparing import chunks_of, encode_missing
from indexing.errors import LoadError
from indexing.loaders import LoaderPool
from indexing.types import Chunk, LoadedText, text_hash

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)


class Board(Protocol):
    """Where a handler says how its jobs fare. A job that was cancelled or lost takes no further word."""

    def progress(self, job: JobRow, done: int, total: int, note: str) -> None: ...

    def succeed(self, job: JobRow, result: dict[str, object]) -> None: ...

    def fail(self, job: JobRow, code: str, detail: str, *, retry: bool) -> None: ...

    def is_stopped(self, job: JobRow) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A document of the batch that gave text."""

    job: JobRow
    file: RevisionFile
    text: LoadedText
    title: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A loaded document with its chunks."""

    loaded: Loaded
    chunks: tuple[Chunk, ...]


def ingest(services: Services, pool: LoaderPool, board: Board, batch: Sequence[JobRow]) -> None:
    """Takes the documents of these jobs from file to searchable; one that fails holds up no other."""
    by_collection: dict[int, list[JobRow]] = defaultdict(list)
    for job in batch:
        if job.collection_id is not None:
            by_collection[job.collection_id].append(job)
    for collection_id, jobs in by_collection.items():
        _ingest_collection(services, pool, board, collection_id, jobs)


def _ingest_collection(
    services: Services, pool: LoaderPool, board: Board, collection_id: int, jobs: Sequence[JobRow]
) -> None:
    version = building.ensure_active(services, collection_id)
    recipe = building.recipe_of(services, version)
    loaded = load(services, pool, board, jobs)
    cut = [
        Cut(
            loaded=item, chunks=tuple(chunks_of(item.file.document_id, item.text, item.title, recipe.chunker))
        )
        for item in loaded
    ]
    texts = {text_hash(chunk.contextual_text): chunk.contextual_text for item in cut for chunk in item.chunks}
    encode_missing(
        services, recipe.encoder, texts, partial(_say_encoding, board, [item.job for item in loaded])
    )
    live = [item for item in cut if not board.is_stopped(item.loaded.job)]
    saved = save(services, live, recipe.chunker.spec.fingerprint)
    building.commit_pending(services, version.id)
    for item in saved:
        publish(services, board, item)


def load(services: Services, pool: LoaderPool, board: Board, jobs: Sequence[JobRow]) -> list[Loaded]:
    """The texts of the jobs' files, read side by side; a job whose file gives none has failed, by name."""
    with ThreadPoolExecutor(services.settings.worker.loaders) as threads:
        results = threads.map(partial(_load_one, services, pool, board), jobs)
        return [item for item in results if item is not None]


def _load_one(services: Services, pool: LoaderPool, board: Board, job: JobRow) -> Loaded | None:
    try:
        with services.write() as session:
            file = documents.begin(session, int(job.document_id or 0), int(job.payload["revision"]))
    except (DocumentNotFound, RevisionNotFound):
        board.succeed(job, {"superseded": True})
        return None
    if file is None:
        board.succeed(job, {"superseded": True})
        return None
    try:
        text = pool.load(services.store.path(file.content_hash), filename=file.filename or file.source)
    except LoadError as error:
        with services.write() as session:
            documents.set_error(
                session, file.document_id, file.revision, code=error.code, detail=error.detail
            )
        board.fail(job, error.code, error.detail, retry=False)
        return None
    board.progress(job, 1, 3, "loaded")
    return Loaded(job=job, file=file, text=text, title=file.title or text.title)


def save(services: Services, batch: Sequence[Cut], chunker: str) -> list[Cut]:
    """Writes texts and chunks in one transaction. What was deleted meanwhile is left out."""
    saved = []
    with services.write() as session:
        for item in batch:
            file = item.loaded.file
            try:
                documents.save_text(session, file.document_id, file.revision, item.loaded.text)
            except (DocumentNotFound, RevisionNotFound):
                continue
            chunks.insert(session, file.revision, chunker, item.chunks)
            saved.append(item)
    return saved


def publish(services: Services, board: Board, item: Cut) -> None:
    """Serves the new revision: its chunks are in the index, those of the earlier one go."""
    file = item.loaded.file
    try:
        with services.write() as session:
            freed = documents.publish(session, file.document_id, file.revision)
    except (DocumentNotFound, RevisionNotFound):
        board.succeed(item.loaded.job, {"superseded": True})
        return
    remove_files(services, freed)
    board.succeed(item.loaded.job, {"n_chunks": len(item.chunks)})


def _say_encoding(board: Board, jobs: Sequence[JobRow], done: int, total: int) -> None:
    for job in jobs[:1]:
        board.progress(job, done, total, "encoding")
