"""Ingesting a batch of documents: load → chunk → encode what is new → save → commit to the index → ready.

Every step can run twice: chunk ids and vectors depend on the text alone, the index commit reconciles, and a
revision that is published already is left as it is. So a job whose worker was killed is simply run again.
Each step is one transaction for the whole batch: one each would cost more than the work.

Of a long document only the text is held, as UTF-8: its chunks are made when they are encoded, part by part,
and once more when they are saved. A batch that needs more memory than the ceiling allows is taken document by
document, and the one that does not fit even alone fails by name.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from app import memory
from app.db import batches
from app.db import jobs as queue
from app.db.batches import LoadedRevision, RevisionFile
from app.db.dialects import in_batches
from app.db.tables import JobRow
from app.documents.intake import remove_files
from app.settings import Settings
from app.versions import building, following, preparing, sparse
from app.versions.following import Recipe
from app.versions.preparing import TEXTS_A_SAVE, chunks_of, encode_missing
from indexing.chunking import Chunker
from indexing.errors import LoadError
from indexing.files import checkpoint
from indexing.loaders import LoaderPool
from indexing.types import Chunk, LoadedText, text_hash

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = "out_of_memory"
ATTEMPTS_WITHOUT_MEMORY = 2
SAY_SECONDS = 1.0


class Board(Protocol):
    """Where a handler says how its jobs fare; a session given puts the word into that transaction."""

    def progress(
        self, jobs: Sequence[JobRow], note: str, done: int = 0, total: int | None = None
    ) -> None: ...

    def succeed(self, session: Session, jobs: Sequence[JobRow]) -> None: ...

    def fail(self, session: Session, job: JobRow, code: str, detail: str, *, retry: bool) -> None: ...

    def is_stopped(self, job: JobRow) -> bool: ...

    def renew(self, session: Session, jobs: Sequence[JobRow]) -> None: ...


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
    chunks: Sequence[Chunk]


def ingest(services: Services, pool: LoaderPool, board: Board, batch: Sequence[JobRow]) -> None:
    """Takes the documents of these jobs from file to searchable; one that fails holds up no other."""
    by_collection: dict[int, list[JobRow]] = defaultdict(list)
    for job in batch:
        if job.collection_id is not None:
            by_collection[job.collection_id].append(job)
    for collection_id, jobs in by_collection.items():
        _ingest_within_memory(services, pool, board, collection_id, jobs)


def _ingest_within_memory(
    services: Services, pool: LoaderPool, board: Board, collection_id: int, jobs: Sequence[JobRow]
) -> None:
    try:
        _ingest_together(services, pool, board, collection_id, jobs)
        return
    except Exception as error:
        if not memory.is_shortage(error):
            raise
        logger.warning("out of memory", extra={"action": "out_of_memory", "n_jobs": len(jobs)})
        # Its frames hold everything that did not fit.
        traceback.clear_frames(error.__traceback__)
    memory.relieve()
    with services.read() as session:
        left = [job for job in jobs if queue.get(session, job.id).status == "doing"]
    if len(jobs) > 1:
        for job in left:
            _ingest_within_memory(services, pool, board, collection_id, [job])
        return
    for job in left:
        with services.write() as session:
            # Once more, since it may have been other work of this process that took the memory.
            retry = job.attempts < ATTEMPTS_WITHOUT_MEMORY
            board.fail(session, job, OUT_OF_MEMORY, out_of_memory_detail(services.settings), retry=retry)


def out_of_memory_detail(settings: Settings) -> str:
    return (
        f"the document needs more memory than the worker may take ({settings.worker.memory_bytes:,} bytes): "
        "raise FOOTNOTE_WORKER_MEMORY_BYTES, or split the file"
    )


def _ingest_together(
    services: Services, pool: LoaderPool, board: Board, collection_id: int, jobs: Sequence[JobRow]
) -> None:
    # First of all: of a collection that was deleted no document begins.
    begun = begin(services, board, jobs)
    if not begun:
        return
    checkpoint("batch-begun")
    version = building.ensure_active(services, collection_id)
    recipe = following.recipe_of(services, version)
    cut = cut_all(board, load(services, pool, board, begun), recipe.chunker)
    encoded = encode(services, board, recipe, cut)
    checkpoint("batch-encoded")
    saved = save(services, board, collection_id, encoded, version.chunker_fingerprint)
    checkpoint("batch-saved")
    # Another version may have been activated since.
    following.commit_pending(services, building.ensure_active(services, collection_id).id)
    checkpoint("batch-indexed")
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
    """The texts of the files, read side by side. A job whose file gives none has failed, by name.

    Raises Unavailable where all files are away.
    """

    def load_one(item: Begun) -> LoadedText | LoadError:
        file = item.file
        try:
            return pool.load(services.store.path(file.content_hash), filename=file.filename or file.source)
        except LoadError as error:
            return error

    with ThreadPoolExecutor(services.settings.worker.loaders) as threads:
        results = list(zip(begun, threads.map(load_one, begun), strict=True))
    services.store.check()  # before a file is said to be no good
    for item, error in results:
        if isinstance(error, LoadError):
            _note_unread(services, board, item, error)
    return [(item, result) for item, result in results if isinstance(result, LoadedText)]


def _note_unread(services: Services, board: Board, item: Begun, error: LoadError) -> None:
    """Where the document was deleted, or got newer content, its file may have gone: then the job is over."""
    wanted = {item.file.document_id: int(item.job.payload["revision"])}
    with services.write() as session:
        if batches.begin(session, wanted):
            board.fail(session, item.job, error.code, error.detail, retry=False)
        else:
            board.succeed(session, [item.job])


class _Stopped(Exception):
    """The job whose document is in work is to stop."""


def cut_all(board: Board, loaded: Sequence[tuple[Begun, LoadedText]], chunker: Chunker) -> list[Cut]:
    """The documents with their chunks, without those whose jobs were stopped meanwhile."""
    cut = []
    for item, text in loaded:
        with suppress(_Stopped):
            cut.append(_cut(board, item, text, chunker))
    return cut


def _cut(board: Board, item: Begun, text: LoadedText, chunker: Chunker) -> Cut:
    said = time.monotonic()

    def go_on(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said < SAY_SECONDS:
            return
        said = time.monotonic()
        board.progress([item.job], "cut", done, total)
        if board.is_stopped(item.job):
            raise _Stopped

    title = item.file.title or text.title
    made = chunks_of(item.file.document_id, text, title, chunker, go_on)
    return Cut(job=item.job, file=item.file, text=text, chunks=made)


def encode(services: Services, board: Board, recipe: Recipe, cut: Sequence[Cut]) -> list[Cut]:
    """Encodes the chunks' texts; gives the documents whose jobs were not stopped meanwhile.

    A part of the chunks at a time: each part is kept as it is made, and then forgotten.
    """
    live = {item.job.id: item for item in cut}
    done, total = 0, sum(len(item.chunks) for item in cut)
    for part in in_batches(_texts(cut, live), TEXTS_A_SAVE):
        texts = {text_hash(text): text for job_id, text in part if job_id in live}
        encode_missing(services, recipe.encoder, texts, with_tokens=recipe.with_tokens)
        if recipe.sparse is not None:
            sparse.encode_missing(services, recipe.sparse, texts)
        done += len(part)
        board.progress([item.job for item in live.values()], "encode", done, total)
        if done < total:
            for job_id in [key for key, item in live.items() if board.is_stopped(item.job)]:
                del live[job_id]
    return list(live.values())


def _texts(cut: Sequence[Cut], live: Mapping[str, Cut]) -> Iterator[tuple[str, str]]:
    """Job and text of every chunk, of a document for as long as its job is live."""
    for item in cut:
        for chunk in item.chunks:
            if item.job.id not in live:
                break
            yield item.job.id, chunk.contextual_text


def save(services: Services, board: Board, collection_id: int, cut: Sequence[Cut], chunker: str) -> list[Cut]:
    """Writes texts and chunks. What was cancelled, deleted or overtaken meanwhile is left out."""
    live = {item.file.document_id: item for item in cut if not board.is_stopped(item.job)}
    staged: dict[int, bool] = {}
    for document_id, item in list(live.items()):
        if len(item.chunks) > preparing.CHUNKS_A_TRANSACTION:
            try:
                staged[document_id] = _stage(services, board, item, chunker)
            except _Stopped:
                del live[document_id]
    loaded = [
        LoadedRevision(file=item.file, text=item.text, chunks=item.chunks, is_staged=key in staged)
        for key, item in live.items()
        if staged.get(key, True)
    ]
    with services.write() as session:
        saved = batches.save(session, collection_id, loaded, chunker)
        for document_id, error in saved.refused.items():
            board.fail(session, live[document_id].job, error.code, error.detail, retry=False)
        over = live.keys() - saved.document_ids - saved.refused.keys()
        board.succeed(session, [live[document_id].job for document_id in over])
        # On SQLite no heartbeat comes through while this transaction writes, so it ends with one.
        board.renew(session, [live[document_id].job for document_id in saved.document_ids])
    for document_id in staged:
        preparing.unstage(services, document_id, chunker)
    return [item for item in live.values() if item.file.document_id in saved.document_ids]


def _stage(services: Services, board: Board, item: Cut, chunker: str) -> bool:
    """Writes what a long document has where no one sees it; False where the document has gone."""
    document_id, number = item.file.document_id, item.file.revision

    def go_on(done: int, total: int) -> None:
        board.progress([item.job], "save", done, total)
        if board.is_stopped(item.job):
            preparing.unstage(services, document_id, chunker)
            raise _Stopped

    return preparing.stage(
        services, document_id, number, chunker, item.chunks, go_on
    ) and preparing.keep_text_parts(services, document_id, number, item.text.text)


def publish(services: Services, board: Board, collection_id: int, saved: Sequence[Cut]) -> None:
    """Serves the new revisions: their chunks are in the index, those of earlier ones go."""
    numbers = {item.file.document_id: item.file.revision for item in saved}
    with services.write() as session:
        published = batches.publish(session, collection_id, numbers)
        board.succeed(session, [item.job for item in saved])
        checkpoint("batch-publishing")
    checkpoint("batch-published")
    remove_files(services, published.content_hashes)
