"""How a folder differs from the collection that mirrors it: what a sync will do. Nothing is written here."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.db import collections, documents, rates, synced
from app.db.errors import CollectionNotFound, InvalidText
from app.db.synced import Known, SyncedFile
from app.db.texts import checked_text
from app.documents import intake
from app.errors import Conflict, InvalidRequest
from app.files.folders import (
    ALL_FILES,
    FoundFile,
    Rules,
    Scan,
    Trouble,
    digest,
    is_shown,
    readable,
    scan,
    source_of,
    unreadable,
)

if TYPE_CHECKING:
    from app.services import Services

FRESH_SECONDS = 2.0
"""A file changed again this soon may bear the same time (FAT counts in steps of 2 s): it is not trusted."""
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
            made.touched.append(as_seen(document.document_id, content_hash, file.n_bytes, file.modified_ns))
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


def as_seen(document_id: int, content_hash: str, n_bytes: int, modified_ns: int) -> SyncedFile:
    is_fresh = modified_ns / 1e9 > time.time() - FRESH_SECONDS
    return SyncedFile(
        document_id=document_id,
        content_hash=content_hash,
        n_bytes=n_bytes,
        modified_ns=None if is_fresh else modified_ns,
    )
