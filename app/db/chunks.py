"""Chunks of served documents.

Write: `insert` · `delete`. Read: `of_document` · `count` · `load_passages` · `load` · `ids_of_documents` ·
`ids_of_collection` · `iterate_texts` · `of_documents` and `some_of_collection` (with vectors). The caller
commits. Every chunk row may be shown, so a chunk goes in the same transaction as the document or revision it
belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Delete, Row, Select, and_, func, select
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from app.db import nodes
from app.db.dialects import in_batches
from app.db.dialects import insert as insert_into
from app.db.tables import ChunkRow, DocumentRow, VectorRow
from indexing.types import Chunk, ChunkId, DocumentId, Ids, contextual_text, text_hash

ROWS_A_FETCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChunk:
    """A chunk, and what a citation needs of its document."""

    chunk: Chunk
    title: str | None
    source: str


@dataclass(frozen=True, slots=True)
class ChunkText:
    """A chunk as an encoder and an index take it; `vector` is float16 bytes, None where none is kept."""

    chunk_id: int
    document_id: int
    text_hash: str
    text: str
    vector: bytes | None


def insert(session: Session, revision: int, chunker: str, chunks: Iterable[Chunk]) -> int:
    """Write chunks of one revision; one that is there under the same id moves to this revision. How many."""
    statement = insert_into(session, ChunkRow)
    excluded = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=[ChunkRow.id],
        set_={"revision": excluded.revision, "page": excluded.page, "heading_path": excluded.heading_path},
    )
    n_chunks = 0
    # No more than a batch is held: a long document has hundreds of thousands.
    for batch in in_batches(chunks):
        session.execute(statement, [row_values(chunk, revision, chunker) for chunk in batch])
        n_chunks += len(batch)
    return n_chunks


def delete(session: Session, document_id: int, *, chunker: str | None = None) -> int:
    """Remove the document's chunks, under one chunker or all; how many went."""
    statement = delete_from(ChunkRow).where(ChunkRow.document_id == document_id)
    if chunker is not None:
        statement = statement.where(ChunkRow.chunker == chunker)
    return _deleted(session, statement)


def _deleted(session: Session, statement: Delete) -> int:
    returning = statement.returning(ChunkRow.id).execution_options(synchronize_session=False)
    gone = session.scalars(returning).all()
    nodes.forget_resting_on(session, gone)
    return len(gone)


def of_document(
    session: Session,
    document_id: int,
    *,
    chunker: str | None = None,
    after_ordinal: int = -1,
    limit: int | None = None,
) -> list[Chunk]:
    """The document's chunks in reading order, from the one after `after_ordinal`."""
    statement = _chunks().where(ChunkRow.document_id == document_id, ChunkRow.ordinal > after_ordinal)
    if chunker is not None:
        statement = statement.where(ChunkRow.chunker == chunker)
    rows = session.execute(statement.order_by(ChunkRow.chunker, ChunkRow.ordinal).limit(limit))
    return [_chunk(row) for row in rows]


def count(session: Session, *, collection_id: int | None = None, chunker: str | None = None) -> int:
    """How many chunks there are, in a collection or under a chunker."""
    statement = select(func.count()).select_from(ChunkRow)
    if collection_id is not None:
        statement = statement.join(DocumentRow, DocumentRow.id == ChunkRow.document_id).where(
            DocumentRow.collection_id == collection_id
        )
    if chunker is not None:
        statement = statement.where(ChunkRow.chunker == chunker)
    return session.scalars(statement).one()


def load_passages(
    session: Session, chunk_ids: Sequence[int], *, collection_id: int | None = None
) -> dict[int, StoredChunk]:
    """The chunks that are there and belong to the collection, by id: one statement per 500.

    What an index names and this leaves out is gone, or was never the collection's: it must not be shown.
    """
    found: dict[int, StoredChunk] = {}
    for batch in in_batches(dict.fromkeys(int(chunk_id) for chunk_id in chunk_ids)):
        statement = (
            _chunks()
            .add_columns(DocumentRow.title, DocumentRow.source)
            .join(DocumentRow, DocumentRow.id == ChunkRow.document_id)
            .where(ChunkRow.id.in_(batch))
        )
        if collection_id is not None:
            statement = statement.where(DocumentRow.collection_id == collection_id)
        for row in session.execute(statement):
            found[row.id] = StoredChunk(chunk=_chunk(row), title=row.title, source=row.source)
    return found


def load(session: Session, chunk_id: int) -> StoredChunk | None:
    """One chunk, or None."""
    return load_passages(session, [chunk_id]).get(chunk_id)


def ids_of_documents(session: Session, document_ids: Iterable[int], chunker: str) -> Ids:
    """The chunk ids of the documents, sorted, int64."""
    found: list[int] = []
    for batch in in_batches(set(document_ids)):
        found += session.scalars(
            select(ChunkRow.id).where(ChunkRow.document_id.in_(batch), ChunkRow.chunker == chunker)
        )
    return np.sort(np.asarray(found, dtype=np.int64))


def ids_of_collection(session: Session, collection_id: int, chunker: str) -> Ids:
    """The chunk ids of a collection under a chunker, sorted, int64."""
    statement = (
        select(ChunkRow.id)
        .join(DocumentRow, DocumentRow.id == ChunkRow.document_id)
        .where(DocumentRow.collection_id == collection_id, ChunkRow.chunker == chunker)
    )
    return np.sort(np.fromiter(session.scalars(statement), dtype=np.int64))


def of_documents(
    session: Session, document_ids: Iterable[int], chunker: str, fingerprint: str
) -> Iterator[ChunkText]:
    """The documents' chunks with the vectors of one encoder, by document id and in reading order."""
    for batch in in_batches(sorted(set(document_ids)), 100):
        statement = (
            with_vectors(fingerprint)
            .where(ChunkRow.document_id.in_(batch), ChunkRow.chunker == chunker)
            .order_by(ChunkRow.document_id, ChunkRow.ordinal)
        )
        yield from map(chunk_text, session.execute(statement))


def iterate_texts(
    session: Session, collection_id: int, chunker: str
) -> Iterator[tuple[ChunkId, DocumentId, str]]:
    """(chunk id, document id, contextual text) of every chunk of a collection, by chunk id.

    Use a read-only session: all batches then come from one snapshot.
    """
    for batch in in_batches(ids_of_collection(session, collection_id, chunker).tolist()):
        statement = with_vectors(fingerprint="").where(ChunkRow.id.in_(batch)).order_by(ChunkRow.id)
        for entry in map(chunk_text, session.execute(statement)):
            yield ChunkId(entry.chunk_id), DocumentId(entry.document_id), entry.text


def some_of_collection(
    session: Session, collection_id: int, fingerprint: str, *, limit: int
) -> list[ChunkText]:
    """The first chunks of a collection by id, which is by chance: an id is a hash."""
    statement = (
        with_vectors(fingerprint)
        .join(DocumentRow, DocumentRow.id == ChunkRow.document_id)
        .where(DocumentRow.collection_id == collection_id)
        .order_by(ChunkRow.id)
        .limit(limit)
    )
    return [chunk_text(row) for row in session.execute(statement)]


def with_vectors(fingerprint: str) -> Select[*tuple[Any, ...]]:
    """Selects what `chunk_text` takes: chunks, each with the kept vector of one encoder."""
    same_text = and_(VectorRow.text_hash == ChunkRow.text_hash, VectorRow.fingerprint == fingerprint)
    columns = (ChunkRow.id, ChunkRow.document_id, ChunkRow.text_hash, ChunkRow.heading_path, ChunkRow.text)
    return select(*columns, VectorRow.vector).outerjoin(VectorRow, same_text)


def chunk_text(row: Row[*tuple[Any, ...]]) -> ChunkText:
    """From a row of `with_vectors`."""
    chunk_id, document_id, key, heading_path, text, vector = row
    return ChunkText(chunk_id, document_id, key, contextual_text(tuple(heading_path), text), vector)


def _chunks() -> Select[*tuple[Any, ...]]:
    return select(
        ChunkRow.id,
        ChunkRow.document_id,
        ChunkRow.ordinal,
        ChunkRow.text,
        ChunkRow.start,
        ChunkRow.end,
        ChunkRow.heading_path,
        ChunkRow.page,
        ChunkRow.n_tokens,
    )


def _chunk(row: Row[*tuple[Any, ...]]) -> Chunk:
    return Chunk(
        id=ChunkId(row.id),
        document_id=DocumentId(row.document_id),
        ordinal=row.ordinal,
        text=row.text,
        start=row.start,
        end=row.end,
        heading_path=tuple(row.heading_path),
        page=row.page,
        n_tokens=row.n_tokens,
    )


def row_values(chunk: Chunk, revision: int, chunker: str) -> dict[str, Any]:
    """The columns of a chunk."""
    return {
        "id": chunk.id,
        "document_id": chunk.document_id,
        "revision": revision,
        "chunker": chunker,
        "ordinal": chunk.ordinal,
        "start": chunk.start,
        "end": chunk.end,
        "page": chunk.page,
        "heading_path": list(chunk.heading_path),
        "text": chunk.text,
        "text_hash": text_hash(chunk.contextual_text),
        "n_tokens": chunk.n_tokens,
    }
