"""Ingesting a batch of documents: load → chunk → encode what is new → save → commit to the index → ready.

Every step can run twice: chunk ids and vectors depend on the text alone, the index commit reconciles, and a
revision that is published already is left as it is. So a job whose worker was killed is simply run again.
Each step is one transaction for the whole batch: one each would cost more than the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from indexing.chunking import Chunker
from indexing.errors import LoadError
from indexing.loaders import LoaderPool
from indexing.types import Chunk, LoadedText, text_hash

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services


class Board(Protocol):
    """Where a handler says how its jobs fare; a session given puts the word into that transaction."""

    def progress(
        self, jobs: Sequence[JobRow], note: str, done: int = 0, total: int | None = None
    ) -> None: ...

    def succeed(self, session: Session, job: JobRow, result: dict[str, object]) -> None: ...

    def fail(self, session: Session, job: JobRow, code: str, detail: str, *, retry: bool) -> None: ...

    def is_stopped(self, job: JobRow) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A job and the file it is about."""

    job: JobRow
    file: RevisionFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A document that gave text, and its chunks."""

    job: JobRow
    file: RevisionFile
    text: LoadedText
    chunks: tuple[Chunk, ...]


def ingest(services: Services, pool: LoaderPool, board: Board, batch: Sequence[JobRow]) -> None:
    """Takes the documents of these jobs from file to searchable; one that fails holds up no other."""
    by_collection: dict[int, list[JobRow]] = defaultdict(list)
    for job in batch:
        if job.collection_id is not None:
            by_collection[job.collection_id].append(job)
    for collection_id, jobs in by_collection.items():
        version = building.ensure_active(services, collection_id)
        recipe = building.recipe_of(services, version)
        begun = begin(services, board, jobs)
        loaded = load(services, pool, board, begun)
        cut = [_cut(item, text, recipe.chunker) for item, text in loaded]
        texts = {text_hash(c.contextual_text): c.contextual_text for item in cut for c in item.chunks}
        working = [item.job for item in cut]
        encode_missing(services, recipe.encoder, texts, partial(board.progress, working, "encode"))
        saved = save(services, board, cut, recipe.chunker.spec.fingerprint)
        building.commit_pending(services, version.id)
        publish(services, board, saved)


def begin(services: Services, board: Board, jobs: Sequence[JobRow]) -> list[Begun]:
    """Marks the documents as being worked on. A job that newer content has overtaken is over."""
    begun = []
    with services.write() as session:
        for job in jobs:
            with _superseded(session, board, job):
                file = documents.begin(session, int(job.document_id or 0), int(job.payload["revision"]))
                if file is None:
                    raise RevisionNotFound("newer content waits, or this one is served")
                begun.append(Begun(job=job, file=file))
    return begun


def load(
    services: Services, pool: LoaderPool, board: Board, begun: Sequence[Begun]
) -> list[tuple[Begun, LoadedText]]:
    """The texts of the files, read side by side. A job whose file gives none has failed, by name."""

    def load_one(item: Begun) -> LoadedText | LoadError:
        file = item.file
        try:
            return pool.load(services.store.path(file.content_hash), filename=file.filename or file.source)
        except LoadError as error:
            return error

    with ThreadPoolExecutor(services.settings.worker.loaders) as threads:
        results = list(zip(begun, threads.map(load_one, begun), strict=True))
    failed = [(item, result) for item, result in results if isinstance(result, LoadError)]
    if failed:
        with services.write() as session:
            for item, error in failed:
                with _superseded(session, board, item.job):
                    code, detail = error.code, error.detail
                    documents.set_error(
                        session, item.file.document_id, item.file.revision, code=code, detail=detail
                    )
                    board.fail(session, item.job, code, detail, retry=False)
    return [(item, result) for item, result in results if isinstance(result, LoadedText)]


def _cut(item: Begun, text: LoadedText, chunker: Chunker) -> Cut:
    title = item.file.title or text.title
    made = chunks_of(item.file.document_id, text, title, chunker)
    return Cut(job=item.job, file=item.file, text=text, chunks=tuple(made))


def save(services: Services, board: Board, batch: Sequence[Cut], chunker: str) -> list[Cut]:
    """Writes texts and chunks in one transaction. What was cancelled or deleted meanwhile is left out."""
    live = [item for item in batch if not board.is_stopped(item.job)]
    saved = []
    with services.write() as session:
        for item in live:
            with _superseded(session, board, item.job):
                documents.save_text(session, item.file.document_id, item.file.revision, item.text)
                chunks.insert(session, item.file.revision, chunker, item.chunks)
                saved.append(item)
    return saved


def publish(services: Services, board: Board, batch: Sequence[Cut]) -> None:
    """Serves the new revisions: their chunks are in the index, those of earlier ones go."""
    freed: list[str] = []
    with services.write() as session:
        for item in batch:
            with _superseded(session, board, item.job):
                freed += documents.publish(session, item.file.document_id, item.file.revision)
                board.succeed(session, item.job, {"n_chunks": len(item.chunks)})
    remove_files(services, freed)


@contextmanager
def _superseded(session: Session, board: Board, job: JobRow) -> Iterator[None]:
    """A job whose document was deleted, or whose revision was overtaken, has nothing to do: it succeeds."""
    try:
        yield
    except (DocumentNotFound, RevisionNotFound):
        board.succeed(session, job, {"superseded": True})
