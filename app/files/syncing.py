"""A collection made to mirror a folder: `plan` (app.files.sync_plans) says what differs, `sync` does it.

What is the sync's own is in `app.db.synced`: a document that came in another way, and has no file below the
folder, is never touched. Every step commits what it did together with what is known of it, so a sync that is
killed is continued by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.db import documents, golden, revisions, synced
from app.db.dialects import in_batches
from app.db.errors import DocumentNotFound
from app.db.synced import Known, SyncedFile
from app.documents import intake
from app.errors import Conflict
from app.files.filing import FILES_A_TRANSACTION, FILES_AT_ONCE, Kept, Say, ensure_collection, keep, work
from app.files.folders import FoundFile, Trouble, identity_of, may_be_file, readable, source_of
from app.files.sync_plans import DEFAULTS, Options, Plan, as_seen, plan
from app.versions import following
from indexing.locks import DirectoryLock

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services

TRIES = 3
PAUSE_SECONDS = 0.2

Work = Callable[["Services", Collection[int], Say], None]
"""Makes the documents searchable, as `app.files.filing.work` does."""


@dataclass(slots=True)
class Report:
    """What was done, by source; `failed` holds what could not be read, too."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    failed: list[Trouble] = field(default_factory=list)
    n_unchanged: int = 0
    n_failed_before: int = 0
    n_unsettled: int = 0
    n_chunks: int = 0


def sync(
    services: Services,
    collection: str,
    folder: Path,
    options: Options = DEFAULTS,
    *,
    say: Say = lambda _stage, _done, _total: None,
    on_wait: Callable[[], None] = lambda: None,
    work: Work = work,
) -> Report:
    """Makes the collection mirror the folder, and works until what is new is searchable.

    One at a time for a collection: another one is waited for, after `on_wait` was called.
    Raises InvalidRequest (`folder_unreadable`), and Conflict: `too_many_deletions` before anything is done,
    `folder_changed` where the folder goes away.
    """
    collection_id = ensure_collection(services, collection)
    with _alone(services, collection_id, on_wait):
        identity = identity_of(folder)
        made = plan(services, collection, folder, options)
        made.check(options)
        report = Report(
            failed=list(made.trouble), n_unchanged=len(made.unchanged), n_unsettled=len(made.unsettled)
        )
        report.n_failed_before = sum(item.status == "failed" for item in made.unchanged)
        _record(services, made.touched)
        taken = _take_all(services, collection_id, collection, made, report, say)
        waiting = {item.document_id for item in made.unchanged if item.status in ("pending", "processing")}
        if taken or waiting:
            work(services, taken.keys() | waiting, say)
        _collect(services, taken, report)
        sources = set(taken.values())
        renamed = [one for one in made.rename if one.file.source in sources]
        report.renamed = [(one.before.source, one.file.source) for one in renamed]
        if options.delete:
            # Last, so that the vectors of what only moved are still there. A renamed file is not looked for
            # again: where names differ by case only, it is found under the old name too.
            before = [one.before for one in renamed]
            _delete(services, collection_id, before, folder, identity, look_again=False)
            report.deleted = _delete(services, collection_id, made.delete, folder, identity)
        # What went leaves the index too, where no worker waits to do it.
        for version_id in following.lagging(services):
            following.commit_pending(services, version_id)
    return report


@contextmanager
def _alone(services: Services, collection_id: int, on_wait: Callable[[], None]) -> Iterator[None]:
    folder = services.settings.home / "syncs" / f"{collection_id:016x}"
    folder.mkdir(parents=True, exist_ok=True)
    lock = DirectoryLock(folder)
    try:
        lock.acquire(timeout_seconds=0)
    except TimeoutError:
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _record(services: Services, files: Sequence[SyncedFile]) -> None:
    for batch in in_batches(files, FILES_A_TRANSACTION):
        with services.write() as session:
            there = {file.document_id for file in batch if _exists(session, file.document_id)}
            synced.record(session, [file for file in batch if file.document_id in there])


def _exists(session: Session, document_id: int) -> bool:
    try:
        documents.get(session, document_id)
    except DocumentNotFound:
        return False
    return True


def _take_all(
    services: Services, collection_id: int, collection: str, made: Plan, report: Report, say: Say
) -> dict[int, str]:
    """Takes the files in; gives the documents that wait for work, by id."""
    before = {one.file.source: one.before for one in made.rename}
    kinds: list[tuple[Sequence[FoundFile], list[str]]] = [
        (made.add, report.added),
        (made.change, report.changed),
        ([one.file for one in made.rename], []),
    ]
    total = sum(len(files) for files, _ in kinds)
    taken: dict[int, str] = {}
    n_done = 0
    for files, names in kinds:
        for batch in in_batches(files, FILES_A_TRANSACTION):
            for document_id, source in _take(services, collection_id, collection, batch, before, report):
                taken[document_id] = source
                names.append(source)
            n_done += len(batch)
            say("accept", n_done, total)
    return taken


def _take(
    services: Services,
    collection_id: int,
    collection: str,
    files: Sequence[FoundFile],
    before: dict[str, Known],
    report: Report,
) -> list[tuple[int, str]]:
    """One transaction: documents, jobs, how the files were, and golden questions that follow a new name."""
    with services.store.adding():
        with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
            results = list(threads.map(lambda file: _keep_steady(services, file), files))
        kept = [(file, item) for file, item in zip(files, results, strict=True) if isinstance(item, Kept)]
        report.failed += [item for item in results if isinstance(item, Trouble)]
        with services.write() as session:
            submissions = [
                (_submission(session, collection, file, before.get(file.source)), item.file)
                for file, item in kept
            ]
            taken = intake.accept_all(services, session, submissions)
            synced.record(
                session,
                [
                    as_seen(one.document_id, item.file.content_hash, item.file.n_bytes, item.modified_ns)
                    for one, (_, item) in zip(taken, kept, strict=True)
                ],
            )
            renamed = {before[file.source].source: file.source for file, _ in kept if file.source in before}
            if renamed:
                golden.rename_source(session, collection_id, renamed)
    return [(one.document_id, file.source) for one, (file, _) in zip(taken, kept, strict=True)]


def _keep_steady(services: Services, file: FoundFile) -> Kept | Trouble:
    """The bytes of a file that did not change while they were read; a few tries are made."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        found = keep(services, file.path)
        if isinstance(found, Trouble) or found.steady:
            return found
    return Trouble(source=file.source, code="file_changing", detail="the file changes while it is read")


def _submission(
    session: Session, collection: str, file: FoundFile, before: Known | None
) -> intake.Submission:
    """The file as it comes in; a renamed one brings the title and metadata that its document was given."""
    title, metadata = _given(session, before.document_id) if before is not None else (None, None)
    return intake.Submission(
        filename=readable(file.path.name),
        collection=collection,
        source=file.source,
        title=title,
        metadata=metadata,
    )


def _given(session: Session, document_id: int) -> tuple[str | None, dict[str, object] | None]:
    try:
        document = documents.get(session, document_id)
    except DocumentNotFound:
        return None, None
    served = revisions.get(session, document_id, document.revision) if document.revision else None
    return revisions.own_title(document, served), revisions.own_metadata(document, served) or None


def _collect(services: Services, taken: dict[int, str], report: Report) -> None:
    with services.read() as session:
        for document_id, source in taken.items():
            try:
                row = documents.get(session, document_id)
            except DocumentNotFound:  # someone deleted it at once
                continue
            report.n_chunks += row.n_chunks if row.status == "ready" else 0
            if row.status == "failed":
                trouble = Trouble(source=source, code=row.error_code or "", detail=row.error_detail or "")
                report.failed.append(trouble)


def _delete(
    services: Services,
    collection_id: int,
    gone: Sequence[Known],
    folder: Path,
    identity: tuple[int, int] | None,
    *,
    look_again: bool = True,
) -> list[str]:
    """Deletes documents while the folder is the one that was looked at; gives the sources.

    With `look_again` a document whose file came back meanwhile is left.
    """
    deleted: list[str] = []
    for batch in in_batches(gone, FILES_A_TRANSACTION):
        absent = [item for item in batch if not (look_again and may_be_file(item.source))]
        if identity_of(folder) != identity:
            raise Conflict(
                f"The folder {source_of(folder)} went away during the sync; {len(deleted)} documents were "
                "deleted before that.",
                code="folder_changed",
            )
        with suppress(DocumentNotFound):  # where someone else deleted them all meanwhile
            intake.delete_all(services, collection_id, [item.document_id for item in absent])
        deleted += [item.source for item in absent]
    return deleted
