"""Ingesting a batch of documents: load → chunk → encode what is new → save → commit to the index → ready.

Every step can run twice: chunk ids and vectors depend on the text alone, the index commit reconciles, and a
revision that is published already is left as it is. So a job whose worker was killed is simply run again.
Each step is one transaction for the whole batch: one each would cost more than the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from app import building, following
from app.db import batches
from app.db.batches import LoadedRevision, RevisionFile
from app.db.tables import JobRow
from app.intake import remove_files
from app.preparing import chunks_of, encode_missing
from indexing.chunking import Chunker
from indexing.encoding.base import Encoder
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

    def succeed(self, session: Session, jobs: Sequence[JobRow]) -> None: ...

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
        # First of all: of a collection that was deleted no document begins.
        begun = begin(services, board, jobs)
        if not begun:
            continue
        version = building.ensure_active(services, collection_id)
        recipe = following.recipe_of(services, version)
        loaded = load(services, pool, board, begun)
        cut = [_cut(item, text, recipe.chunker) for item, text in loaded]
        encoded = encode(services, board, recipe.encoder, cut)
        saved = save(services, board, collection_id, encoded, version.chunker_fingerprint)
        # Another version may have been activated since.
        following.commit_pending(services, building.ensure_active(services, collection_id).id)
        publish(services, board, collection_id, saved)


def begin(services: Services, board: Board, jobs: Sequence[JobRow]) -> list[Begun]:
    """Marks the documents as being worked on. A job that deletion or newer content has overtaken is over."""
    numbers = {int(job.document_id or 0): int(job.payload["revision"]) for job in jobs}
    with services.write() as session:
        files = batches.begin(session, numbers)
        begun = [Begun(job=job, file=files[job.document_id]) for job in jobs if job.document_id in files]
        board.succeed(session, [job for job in jobs if job.document_id not in files])
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
    for item, error in results:
        if isinstance(error, LoadError):
            with services.write() as session:
                board.fail(session, item.job, error.code, error.detail, retry=False)
    return [(item, result) for item, result in results if isinstance(result, LoadedText)]


def _cut(item: Begun, text: LoadedText, chunker: Chunker) -> Cut:
    title = item.file.title or text.title
    made = chunks_of(item.file.document_id, text, title, chunker)
    return Cut(job=item.job, file=item.file, text=text, chunks=tuple(made))


class _Stopped(Exception):
    """Some job that is being encoded for is to stop."""


def encode(services: Services, board: Board, encoder: Encoder, cut: Sequence[Cut]) -> list[Cut]:
    """Encodes the chunks' texts; gives the documents whose jobs were not stopped meanwhile."""
    live = list(cut)

    def go_on(done: int, total: int) -> None:
        board.progress([item.job for item in live], "encode", done, total)
        if done < total and any(board.is_stopped(item.job) for item in live):
            raise _Stopped

    while True:
        texts = {text_hash(c.contextual_text): c.contextual_text for item in live for c in item.chunks}
        try:
            encode_missing(services, encoder, texts, go_on)
        except _Stopped:
            # Each part is kept as it is made: what is left is encoded without those that stopped.
            live = [item for item in live if not board.is_stopped(item.job)]
        else:
            return live


def save(services: Services, board: Board, collection_id: int, cut: Sequence[Cut], chunker: str) -> list[Cut]:
    """Writes texts and chunks. What was cancelled, deleted or overtaken meanwhile is left out."""
    live = {item.file.document_id: item for item in cut if not board.is_stopped(item.job)}
    loaded = [LoadedRevision(file=item.file, text=item.text, chunks=item.chunks) for item in live.values()]
    with services.write() as session:
        saved = batches.save(session, collection_id, loaded, chunker)
        for document_id, error in saved.refused.items():
            board.fail(session, live[document_id].job, error.code, error.detail, retry=False)
        over = live.keys() - saved.document_ids - saved.refused.keys()
        board.succeed(session, [live[document_id].job for document_id in over])
    return [item for item in live.values() if item.file.document_id in saved.document_ids]


def publish(services: Services, board: Board, collection_id: int, saved: Sequence[Cut]) -> None:
    """Serves the new revisions: their chunks are in the index, those of earlier ones go."""
    numbers = {item.file.document_id: item.file.revision for item in saved}
    with services.write() as session:
        published = batches.publish(session, collection_id, numbers)
        board.succeed(session, [item.job for item in saved])
    remove_files(services, published.content_hashes)
