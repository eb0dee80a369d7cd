"""What the database has of a collection, and whether it hangs together: for builds, verification, repair.

Of chunks: `chunk_signature` · `chunks_with_vectors` · `documents_of_chunks` · `stale_chunks` ·
`remove_stale_chunks` · `with_missing_chunks`. Of vectors: `has_every_vector` · `n_without_vector` ·
`without_vector` · `forget_vectors_of`. Of documents: `ready_without_text` · `ready_without_chunks`. The
caller commits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, select
from sqlalchemy.orm import Session

from app.db import nodes
from app.db.chunks import ChunkText, chunk_text, with_vectors
from app.db.dialects import in_batches
from app.db.tables import ChunkRow, DocumentRow, RevisionRow, VectorRow

SIGNATURE_PRIME = 2_147_483_647


def chunk_signature(session: Session, collection_id: int, chunker: str) -> tuple[int, int]:
    """How many chunks a collection has under a chunker, and the sum of their ids modulo a prime.

    Two sets of ids that agree in both are the same, but for an accident; it costs a fraction of the ids.
    """
    statement = select(func.count(), func.coalesce(func.sum(ChunkRow.id % SIGNATURE_PRIME), 0))
    n_chunks, total = session.execute(
        _of_collection(statement.select_from(ChunkRow), collection_id, chunker)
    ).one()
    return int(n_chunks), int(total)


def chunks_with_vectors(session: Session, chunk_ids: Iterable[int], fingerprint: str) -> list[ChunkText]:
    """These chunks, by id, with the kept vector of one encoder."""
    found: list[ChunkText] = []
    for batch in in_batches(sorted(set(chunk_ids))):
        rows = session.execute(with_vectors(fingerprint).where(ChunkRow.id.in_(batch)).order_by(ChunkRow.id))
        found += map(chunk_text, rows)
    return found


def has_every_vector(session: Session, fingerprint: str, *, with_tokens: bool = False) -> bool:
    """Whether no chunk at all lacks a kept vector of an encoder; with `with_tokens`, nor those of its tokens.

    It looks at every collection and chunker, but only at indexes, and these in their order: at a million
    chunks that takes a second, where looking at the chunks of one collection takes half a minute.
    """
    of_text = (VectorRow.fingerprint == fingerprint, VectorRow.text_hash == ChunkRow.text_hash)
    lacking = select(ChunkRow.text_hash).where(~exists().where(*of_text))
    if session.execute(lacking.limit(1)).first() is not None:
        return False
    if not with_tokens:
        return True
    bare = select(VectorRow.text_hash).where(
        VectorRow.fingerprint == fingerprint,
        VectorRow.tokens.is_(None),
        exists().where(ChunkRow.text_hash == VectorRow.text_hash),
    )
    return session.execute(bare.limit(1)).first() is None


def n_without_vector(
    session: Session, collection_id: int, chunker: str, fingerprint: str, *, with_tokens: bool = False
) -> int:
    """How many chunks have no kept vector of an encoder; with `with_tokens`, or none of their tokens."""
    statement = select(func.count()).select_from(ChunkRow).outerjoin(VectorRow, _same_text(fingerprint))
    wanted = _of_collection(statement, collection_id, chunker).where(_lacking(with_tokens))
    return int(session.scalars(wanted).one())


def without_vector(
    session: Session,
    collection_id: int,
    chunker: str,
    fingerprint: str,
    *,
    after: int = -1,
    limit: int = 512,
    with_tokens: bool = False,
) -> list[ChunkText]:
    """The next chunks without a kept vector, or with `with_tokens` without those of their tokens, by id, from
    the one after `after`."""
    statement = (
        _of_collection(with_vectors(fingerprint), collection_id, chunker)
        .where(_lacking(with_tokens), ChunkRow.id > after)
        .order_by(ChunkRow.id)
        .limit(limit)
    )
    return [chunk_text(row) for row in session.execute(statement)]


def _lacking(with_tokens: bool) -> ColumnElement[bool]:
    """Of an outer join with the vectors: what lacks one, or the vectors of its tokens."""
    return VectorRow.tokens.is_(None) if with_tokens else VectorRow.text_hash.is_(None)


def stale_chunks(session: Session, collection_id: int) -> dict[int, int]:
    """How many chunks each document has of revisions before the served one; they went with those."""
    statement = (
        select(ChunkRow.document_id, func.count())
        .join(DocumentRow, DocumentRow.id == ChunkRow.document_id)
        .where(DocumentRow.collection_id == collection_id, ChunkRow.revision < DocumentRow.revision)
        .group_by(ChunkRow.document_id)
    )
    return {int(document_id): int(n_chunks) for document_id, n_chunks in session.execute(statement)}


def remove_stale_chunks(session: Session, collection_id: int) -> list[int]:
    """Removes the chunks of revisions before the served ones; gives the documents that had any, by id."""
    stale = (
        select(ChunkRow.id)
        .join(DocumentRow, DocumentRow.id == ChunkRow.document_id)
        .where(DocumentRow.collection_id == collection_id, ChunkRow.revision < DocumentRow.revision)
    )
    statement = delete(ChunkRow).where(ChunkRow.id.in_(stale)).returning(ChunkRow.id, ChunkRow.document_id)
    gone = session.execute(statement.execution_options(synchronize_session=False)).all()
    nodes.forget_resting_on(session, (chunk_id for chunk_id, _ in gone))
    return sorted({document_id for _, document_id in gone})


def documents_of_chunks(session: Session, chunk_ids: Iterable[int]) -> set[int]:
    """The documents that these chunks are of."""
    found: set[int] = set()
    for batch in in_batches(sorted(set(chunk_ids))):
        found.update(session.scalars(select(ChunkRow.document_id).where(ChunkRow.id.in_(batch))))
    return found


def with_missing_chunks(session: Session, collection_id: int, chunker: str) -> list[int]:
    """The documents whose chunks under a chunker are not numbered without gaps, by id."""
    numbered = (
        select(ChunkRow.document_id)
        .select_from(ChunkRow)
        .group_by(ChunkRow.document_id, ChunkRow.revision)
        .having(func.count() != func.max(ChunkRow.ordinal) + 1)
    )
    found = session.scalars(_of_collection(numbered, collection_id, chunker))
    return sorted(set(found))


def forget_vectors_of(session: Session, fingerprint: str, hashes: Iterable[str]) -> None:
    """Removes the kept vectors of these texts that one encoder made."""
    for batch in in_batches(sorted(set(hashes))):
        session.execute(
            delete(VectorRow)
            .where(VectorRow.fingerprint == fingerprint, VectorRow.text_hash.in_(batch))
            .execution_options(synchronize_session=False)
        )


def ready_without_text(session: Session, collection_id: int) -> list[int]:
    """The documents that are ready although the text of the served revision is gone, by id."""
    statement = (
        select(DocumentRow.id)
        .outerjoin(RevisionRow, _served())
        .where(
            DocumentRow.collection_id == collection_id,
            DocumentRow.status == "ready",
            RevisionRow.text.is_(None),
        )
        .order_by(DocumentRow.id)
    )
    return list(session.scalars(statement))


def ready_without_chunks(session: Session, collection_id: int, chunker: str) -> list[int]:
    """The documents that are ready and have a text, but no chunk under a chunker, by id."""
    cut = exists().where(ChunkRow.document_id == DocumentRow.id, ChunkRow.chunker == chunker)
    statement = (
        select(DocumentRow.id)
        .join(RevisionRow, _served())
        .where(
            DocumentRow.collection_id == collection_id,
            DocumentRow.status == "ready",
            RevisionRow.text != "",
            ~cut,
        )
        .order_by(DocumentRow.id)
    )
    return list(session.scalars(statement))


def _served() -> Any:
    return and_(RevisionRow.document_id == DocumentRow.id, RevisionRow.number == DocumentRow.revision)


def _same_text(fingerprint: str) -> Any:
    return and_(VectorRow.text_hash == ChunkRow.text_hash, VectorRow.fingerprint == fingerprint)


def _of_collection(statement: Any, collection_id: int, chunker: str) -> Any:
    return statement.join(DocumentRow, DocumentRow.id == ChunkRow.document_id).where(
        DocumentRow.collection_id == collection_id, ChunkRow.chunker == chunker
    )
