"""The steps of ingestion for many documents of one collection at once: a few statements a step.

`begin` · `save` · `publish`. What was deleted, or overtaken by newer content, is left out of the result,
which is no error. Each step can run twice. The caller commits.

Documents are locked in the order of their ids. `save` and `publish`, which log changes, lock the collection
before them, as everything does that logs changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.orm import Session, defer

from app.db import chunks, collections, nodes, revisions, staging, vectors, versions
from app.db.attributes import set_attributes_of
from app.db.dialects import in_batches
from app.db.errors import MetadataError
from app.db.metadata import flatten
from app.db.tables import ChunkRow, DocumentRow, RevisionRow
from app.db.types import utc_now
from indexing.long_text import PART_CHARS, LongText, parts_of
from indexing.types import Chunk, LoadedText

# What a step does not look at, and can be long.
_LONG = (RevisionRow.text, RevisionRow.headings, RevisionRow.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionFile:
    """What a worker needs to load a revision; `title` is the user's own, None to take the loader's."""

    document_id: int
    revision: int
    content_hash: str
    source: str
    filename: str | None
    media_type: str | None
    n_bytes: int
    title: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRevision:
    """The text of a revision's file, and the chunks that it was cut into.

    Where `is_staged`, the chunks and the text's further parts are in the database already (`app.db.staging`).
    """

    file: RevisionFile
    text: LoadedText
    chunks: Sequence[Chunk]
    is_staged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """The documents whose texts were kept, and those whose metadata no filter could find, with the reason."""

    document_ids: frozenset[int]
    refused: Mapping[int, MetadataError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The documents that are served anew, and the files that no document needs any more."""

    document_ids: frozenset[int]
    content_hashes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A document, the revision that a step is about, and the one that is served now."""

    document: DocumentRow
    revision: RevisionRow
    served: RevisionRow | None
    has_text: bool
    is_newest: bool

    @property
    def own_title(self) -> str | None:
        return revisions.own_title(self.document, self.served)

    def metadata(self, loaded: Mapping[str, Any]) -> dict[str, Any]:
        """What the loader says of this revision, and over it the user's own."""
        return {**loaded, **revisions.own_metadata(self.document, self.served)}


def begin(
    session: Session, numbers: Mapping[int, int], *, now: datetime | None = None
) -> dict[int, RevisionFile]:
    """Marks revisions (number by document id) as being worked on; gives what to load, by document id.

    Left out is also what needs no work: the revision is served already, or newer content waits.
    """
    steps = [
        step
        for step in _steps(session, numbers)
        if step.is_newest and step.revision.number > step.document.revision
    ]
    for batch in in_batches(step.document.id for step in steps):
        session.execute(
            update(DocumentRow)
            .where(DocumentRow.id.in_(batch))
            .values(status="processing", error_code=None, error_detail=None, updated_at=now or utc_now())
            .execution_options(synchronize_session=False)
        )
    return {
        step.document.id: RevisionFile(
            document_id=step.document.id,
            revision=step.revision.number,
            content_hash=step.revision.content_hash,
            source=step.document.source,
            filename=step.revision.filename,
            media_type=step.revision.media_type,
            n_bytes=step.revision.n_bytes,
            title=step.own_title,
        )
        for step in steps
    }


def save(
    session: Session,
    collection_id: int,
    loaded: Iterable[LoadedRevision],
    chunker: str,
    *,
    now: datetime | None = None,
) -> Saved:
    """Keeps texts and chunks, and logs the changes; gives the documents it was done for.

    The chunks of the revision that is served stay beside the new ones until `publish`.
    """
    collections.lock(session, collection_id)
    by_id = {item.file.document_id: item for item in loaded}
    kept: list[LoadedRevision] = []
    refused: dict[int, MetadataError] = {}
    for step in _steps(session, {key: item.file.revision for key, item in by_id.items()}):
        item = by_id[step.document.id]
        # A source that was deleted and came back counts its revisions from one again.
        if step.revision.content_hash != item.file.content_hash:
            continue
        try:
            flatten(step.metadata(item.text.metadata))
        except MetadataError as error:
            refused[step.document.id] = error
        else:
            kept.append(item)
    numbers = {item.file.document_id: item.file.revision for item in kept}
    if kept:
        collections.log_changes(session, collection_id, list(numbers), "upsert", now=now)
        session.execute(update(RevisionRow), [_text_values(item) for item in kept])
        _set_text_parts(session, kept)
        _remove_cut(session, numbers)
    for number in sorted(set(numbers.values())):
        short = (item for item in kept if item.file.revision == number and not item.is_staged)
        chunks.insert(session, number, chunker, (chunk for item in short for chunk in item.chunks))
    for item in kept:
        if item.is_staged:
            staging.move(session, item.file.document_id, item.file.revision, chunker)
    return Saved(document_ids=frozenset(numbers), refused=refused)


def publish(
    session: Session, collection_id: int, numbers: Mapping[int, int], *, now: datetime | None = None
) -> Published:
    """Serves these revisions (number by document id) from now on.

    Chunks and texts of earlier revisions go; where there were chunks, that is a change. A document is ready
    unless newer content waits. Left out is also what has no text: it was never saved.
    """
    now = now or utc_now()
    collections.lock(session, collection_id)
    steps = [step for step in _steps(session, numbers) if step.has_text]
    if not steps:
        return Published(document_ids=frozenset(), content_hashes=())
    numbers = {step.document.id: step.revision.number for step in steps}
    changed = _remove_others(session, numbers)
    if changed:
        collections.log_changes(session, collection_id, sorted(changed), "upsert", now=now)
    n_chunks = _n_chunks(session, collection_id, numbers)
    shown = {step.document.id: step.metadata(step.revision.meta) for step in steps}
    session.execute(
        update(RevisionRow),
        [
            {"document_id": key, "number": number, "status": "ready", "ready_at": now}
            for key, number in numbers.items()
        ],
    )
    session.execute(
        update(DocumentRow),
        [
            {
                **_served_values(step, now),
                "meta": shown[step.document.id],
                "n_chunks": n_chunks.get(step.document.id, 0),
            }
            for step in steps
        ],
    )
    set_attributes_of(session, shown)
    return Published(document_ids=frozenset(numbers), content_hashes=revisions.supersede(session, numbers))


def _steps(session: Session, numbers: Mapping[int, int]) -> list[_Step]:
    """The documents that are there, locked, by id; without those whose revision is gone or behind."""
    return [step for batch in in_batches(sorted(numbers)) for step in _locked_steps(session, batch, numbers)]


def _locked_steps(session: Session, batch: Sequence[int], numbers: Mapping[int, int]) -> list[_Step]:
    documents = session.scalars(
        select(DocumentRow)
        .where(DocumentRow.id.in_(batch))
        .order_by(DocumentRow.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    # Only after the lock: what another transaction did before it is to be seen.
    rows = session.execute(
        select(RevisionRow, RevisionRow.text.is_not(None))
        .join(DocumentRow, DocumentRow.id == RevisionRow.document_id)
        .where(RevisionRow.document_id.in_(batch), RevisionRow.number >= DocumentRow.revision)
        .options(*(defer(column, raiseload=True) for column in _LONG))
        .execution_options(populate_existing=True)
    ).all()
    history: dict[int, dict[int, tuple[RevisionRow, bool]]] = defaultdict(dict)
    for row, has_text in rows:
        history[row.document_id][row.number] = (row, has_text)
    steps = []
    for document in documents:
        number, known = numbers[document.id], history[document.id]
        if number not in known:
            continue
        revision, has_text = known[number]
        served, _ = known.get(document.revision, (None, False))
        steps.append(
            _Step(
                document=document,
                revision=revision,
                served=served,
                has_text=has_text,
                is_newest=number == max(known),
            )
        )
    return steps


def _text_values(item: LoadedRevision) -> dict[str, Any]:
    loaded = item.text
    return {
        "document_id": item.file.document_id,
        "number": item.file.revision,
        "text": next(parts_of(loaded.text), ""),
        "title": loaded.title,
        "meta": dict(loaded.metadata),
        "pages": [asdict(page) for page in loaded.pages],
        "headings": [asdict(heading) for heading in loaded.headings],
        "blocks": [asdict(block) for block in loaded.blocks],
    }


def _set_text_parts(session: Session, kept: Iterable[LoadedRevision]) -> None:
    """Keeps what is behind the first part of the texts, and forgets what an earlier attempt kept there."""
    short = []
    for item in kept:
        if item.is_staged:
            continue
        document_id, number = item.file.document_id, item.file.revision
        if isinstance(item.text.text, LongText) or len(item.text.text) > PART_CHARS:
            rest = islice(parts_of(item.text.text), 1, None)
            revisions.set_text_parts(session, document_id, number, rest)
        else:
            short.append((document_id, number))
    revisions.remove_text_parts(session, short)


def _served_values(step: _Step, now: datetime) -> dict[str, Any]:
    document = step.document
    return {
        "id": document.id,
        "revision": step.revision.number,
        "title": step.own_title or step.revision.title,
        "n_pages": len(step.revision.pages),
        "status": "ready" if step.is_newest else document.status,
        "error_code": None if step.is_newest else document.error_code,
        "error_detail": None if step.is_newest else document.error_detail,
        "updated_at": now,
    }


def _remove_cut(session: Session, numbers: Mapping[int, int]) -> None:
    """Removes what an earlier attempt cut from these revisions: maybe of another text or title."""
    for batch in in_batches(numbers.items()):
        gone = session.scalars(
            delete(ChunkRow)
            .where(tuple_(ChunkRow.document_id, ChunkRow.revision).in_(batch))
            .returning(ChunkRow.id)
            .execution_options(synchronize_session=False)
        ).all()
        nodes.forget_resting_on(session, gone)


def _remove_others(session: Session, numbers: Mapping[int, int]) -> set[int]:
    """Removes the chunks of other revisions than these; gives the documents that had any."""
    changed: set[int] = set()
    for batch in in_batches(numbers.items()):
        statement = (
            delete(ChunkRow)
            .where(
                ChunkRow.document_id.in_([document_id for document_id, _ in batch]),
                tuple_(ChunkRow.document_id, ChunkRow.revision).not_in(batch),
            )
            .returning(ChunkRow.id, ChunkRow.document_id, ChunkRow.text_hash)
            .execution_options(synchronize_session=False)
        )
        gone = session.execute(statement).all()
        changed.update(document_id for _, document_id, _ in gone)
        nodes.forget_resting_on(session, (chunk_id for chunk_id, _, _ in gone))
        vectors.forget_unused(session, (text_hash for _, _, text_hash in gone))
    return changed


def _n_chunks(session: Session, collection_id: int, document_ids: Iterable[int]) -> dict[int, int]:
    """How many chunks the served index holds of each document; those without one are left out."""
    found: dict[int, int] = {}
    version = versions.active(session, collection_id)
    if version is None:
        return found
    for batch in in_batches(document_ids):
        statement = (
            select(ChunkRow.document_id, func.count())
            .where(ChunkRow.document_id.in_(batch), ChunkRow.chunker == version.chunker_fingerprint)
            .group_by(ChunkRow.document_id)
        )
        found.update((document_id, n) for document_id, n in session.execute(statement))
    return found
