"""A collection made to mirror a folder: `plan` says what differs, `sync` does it.

What is the sync's own is in `app.db.synced`: a document that came in another way, and has no file below the
folder, is never touched. Every step commits what it did together with what is known of it, so a sync that is
killed is continued by the next one.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app import following, intake
from app.db import collections, documents, golden, rates, revisions, synced
from app.db.dialects import in_batches
from app.db.errors import CollectionNotFound, DocumentNotFound, InvalidText
from app.db.synced import Known, SyncedFile
from app.db.texts import checked_text
from app.errors import Conflict, InvalidRequest
from app.filing import FILES_A_TRANSACTION, FILES_AT_ONCE, Kept, Say, ensure_collection, keep, work
from app.folders import (
    ALL_FILES,
    FoundFile,
    Rules,
    Scan,
    Trouble,
    digest,
    identity_of,
    is_shown,
    readable,
    scan,
    source_of,
    unreadable,
)
from indexing.locks import DirectoryLock

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services

FRESH_SECONDS = 2.0
"""A file changed again this soon may bear the same time (FAT counts in steps of 2 s): it is not trusted."""
TRIES = 3
PAUSE_SECONDS = 0.2
DEFAULT_CHUNKS_PER_BYTE = 1 / 700
DEFAULT_BYTES_PER_SECOND = 40_000.0
"""The default encoder on two cores: 9,200 tokens of about four characters a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to sync. `settle_seconds`: a file changed more recently than this may still be in the writing."""

    rules: Rules = ALL_FILES
    checksum: bool = False
    delete: bool = True
    max_delete: float = 0.5
    force: bool = False
    settle_seconds: float = 0.0


DEFAULTS = Options()

Work = Callable[["Services", Collection[int], Say], None]
"""Makes the documents searchable, as `app.filing.work` does."""


@dataclass(frozen=True, slots=True)
class Rename:
    """A file whose bytes are those of a document whose own file is gone."""

    file: FoundFile
    before: Known


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is to be taken in: chunks and seconds as past work lets expect, or by the defaults without any."""

    n_bytes: int
    n_chunks: int
    seconds: float
    is_measured: bool


@dataclass(slots=True)
class Plan:
    """How the folder differs from the collection. `touched` are as they were, but are to be recorded."""

    root: str
    add: list[FoundFile] = field(default_factory=list)
    change: list[FoundFile] = field(default_factory=list)
    rename: list[Rename] = field(default_factory=list)
    delete: list[Known] = field(default_factory=list)
    touched: list[SyncedFile] = field(default_factory=list)
    unchanged: list[Known] = field(default_factory=list)
    unsettled: list[FoundFile] = field(default_factory=list)
    trouble: list[Trouble] = field(default_factory=list)
    n_lost: int = 0
    n_own: int = 0
    """Of so many documents that are the sync's own, `n_lost` go whose bytes no other file here has."""

    @property
    def is_empty(self) -> bool:
        return not (self.add or self.change or self.rename or self.delete)

    def check(self, options: Options) -> None:
        """Raises Conflict (`too_many_deletions`) where more would go than may without asking."""
        if self.delete and not options.force and self.n_lost > options.max_delete * self.n_own:
            raise Conflict(
                f"{self.n_lost} of {self.n_own} synced documents have no file below {self.root} any more. "
                "If the folder is whole, for example not on a disk that is not mounted, say --yes.",
                code="too_many_deletions",
            )


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


def plan(services: Services, collection: str, folder: Path, options: Options) -> Plan:
    """How the folder differs from the collection; nothing is written.

    Raises InvalidRequest (`folder_unreadable`).
    """
    root = source_of(folder)
    found = _scan(folder, options.rules)
    with services.read() as session:
        try:
            known = synced.below(session, collections.get_by_name(session, collection).id, root)
        except CollectionNotFound:
            known = {}
    made = Plan(root=root, trouble=list(found.unreadable))
    new: list[FoundFile] = []
    for file in _named(found.files, made.trouble):
        document = known.get(file.source)
        if document is None:
            new.append(file)
        else:
            _place(made, file, document, options)
    present = {file.source for file in found.files}
    own = [item for item in known.values() if item.file and options.rules.choose(Path(item.source))]
    made.n_own = len(own)
    gone = [item for item in own if item.source not in present and _is_gone(found, root, item.source)]
    _place_new(made, new, gone, options)
    kept = {item.content_hash for item in made.unchanged} | {one.before.content_hash for one in made.rename}
    made.n_lost = sum(item.content_hash not in kept for item in made.delete)
    if not options.delete:
        made.delete, made.n_lost = [], 0
    return made


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


def estimate(services: Services, made: Plan) -> Estimate:
    """What taking in the added and changed files will come to; a renamed one costs next to nothing."""
    n_bytes = sum(file.n_bytes for file in (*made.add, *made.change))
    with services.read() as session:
        density = rates.chunks_per_byte(session) or DEFAULT_CHUNKS_PER_BYTE
        measured = rates.bytes_per_second(session, intake.INGEST)
    return Estimate(
        n_bytes=n_bytes,
        n_chunks=round(n_bytes * density),
        seconds=n_bytes / (measured or DEFAULT_BYTES_PER_SECOND),
        is_measured=measured is not None,
    )


def _scan(folder: Path, rules: Rules) -> Scan:
    try:
        return scan(folder, rules)
    except OSError as error:
        raise InvalidRequest(
            f"The folder {source_of(folder)} cannot be read: {error.strerror}.", code="folder_unreadable"
        ) from error


def _named(files: Iterable[FoundFile], trouble: list[Trouble]) -> Iterator[FoundFile]:
    """The files whose name can be a source that no other file has."""
    seen: set[str] = set()
    for file in files:
        try:
            checked_text("source", file.source, max_bytes=documents.MAX_SOURCE_BYTES)
        except InvalidText as error:
            trouble.append(Trouble(source=file.source, code=error.code, detail=str(error)))
            continue
        if file.source in seen:
            detail = "another file has this name once what is no UTF-8 is written out"
            trouble.append(Trouble(source=file.source, code="name_taken", detail=detail))
            continue
        seen.add(file.source)
        yield file


def _place(made: Plan, file: FoundFile, document: Known, options: Options) -> None:
    """Whether a file that has a document is as it was: by size and time; where these differ, by its bytes."""
    last = document.file
    trusted = last is not None and last.content_hash == document.content_hash and not options.checksum
    if trusted and last is not None and (last.n_bytes, last.modified_ns) == (file.n_bytes, file.modified_ns):
        made.unchanged.append(document)
    elif _is_unsettled(file, options):
        made.unsettled.append(file)
    elif document.n_bytes != file.n_bytes:
        made.change.append(file)
    else:
        content_hash = _digest(file, made.trouble)
        if content_hash == document.content_hash:
            made.unchanged.append(document)
            made.touched.append(_as_seen(document.document_id, content_hash, file.n_bytes, file.modified_ns))
        elif content_hash is not None:
            made.change.append(file)


def _place_new(made: Plan, new: Sequence[FoundFile], gone: Sequence[Known], options: Options) -> None:
    """Tells new files from renamed ones: those with the bytes of a document whose file is gone."""
    sizes = {item.n_bytes for item in gone}
    left: defaultdict[str, list[Known]] = defaultdict(list)
    for item in gone:
        left[item.content_hash].append(item)
    for file in new:
        if _is_unsettled(file, options):
            made.unsettled.append(file)
            continue
        content_hash = _digest(file, made.trouble) if file.n_bytes in sizes else ""
        candidates = left[content_hash] if content_hash else []
        if content_hash is None:
            continue
        if not candidates:
            made.add.append(file)
            continue
        same_name = [item for item in candidates if item.filename == readable(file.path.name)]
        before = (same_name or candidates)[0]
        candidates.remove(before)
        made.rename.append(Rename(file, before))
    renamed = {one.before.document_id for one in made.rename}
    # A file not yet settled may be one of these under its new name.
    fresh = Counter(file.n_bytes for file in made.unsettled)
    made.delete = [item for item in gone if item.document_id not in renamed and item.n_bytes not in fresh]


def _is_gone(found: Scan, root: str, source: str) -> bool:
    return found.knows(source) and is_shown(root, source)


def _is_unsettled(file: FoundFile, options: Options) -> bool:
    return 0 <= time.time() - file.modified_ns / 1e9 < options.settle_seconds


def _digest(file: FoundFile, trouble: list[Trouble]) -> str | None:
    try:
        return digest(file.path)
    except OSError as error:
        trouble.append(unreadable(file.path, error))
        return None


def _as_seen(document_id: int, content_hash: str, n_bytes: int, modified_ns: int) -> SyncedFile:
    is_fresh = modified_ns / 1e9 > time.time() - FRESH_SECONDS
    return SyncedFile(
        document_id=document_id,
        content_hash=content_hash,
        n_bytes=n_bytes,
        modified_ns=None if is_fresh else modified_ns,
    )


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
                    _as_seen(one.document_id, item.file.content_hash, item.file.n_bytes, item.modified_ns)
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
        absent = [item for item in batch if not (look_again and os.path.lexists(item.source))]
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
