"""Embeddings that were computed once: `known` · `load` · `load_tokens` · `save` · `forget_unused`
· `forget_collection`.

The caller commits.

A vector belongs to an encoder's fingerprint and the hash of the text it encoded. The same text under the same
encoder is the same vector, so saving twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, select, tuple_
from sqlalchemy.orm import Session, aliased

from app.db.dialects import in_batches, insert
from app.db.tables import ChunkRow, DocumentRow, NodeRow, VectorRow
from app.db.types import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVector:
    """A text's embedding: float16 bytes, and where kept the bytes of its `n_tokens` token vectors."""

    text_hash: str
    vector: bytes
    tokens: bytes | None = None
    n_tokens: int | None = None


def known(
    session: Session, fingerprint: str, hashes: Iterable[str], *, with_tokens: bool = False
) -> set[str]:
    """Those of the hashes that have a vector; with `with_tokens`, those that have token vectors too."""
    found: set[str] = set()
    for batch in in_batches(set(hashes)):
        statement = select(VectorRow.text_hash).where(
            VectorRow.fingerprint == fingerprint, VectorRow.text_hash.in_(batch)
        )
        if with_tokens:
            statement = statement.where(VectorRow.tokens.is_not(None))
        found.update(session.scalars(statement))
    return found


def load(session: Session, fingerprint: str, hashes: Iterable[str]) -> dict[str, bytes]:
    """The vectors by text hash, as float16 bytes; a hash without one is left out."""
    found: dict[str, bytes] = {}
    for batch in in_batches(set(hashes)):
        rows = session.execute(
            select(VectorRow.text_hash, VectorRow.vector).where(
                VectorRow.fingerprint == fingerprint, VectorRow.text_hash.in_(batch)
            )
        )
        found.update((text_hash, vector) for text_hash, vector in rows)
    return found


def load_tokens(session: Session, fingerprint: str, hashes: Iterable[str]) -> dict[str, StoredVector]:
    """Vectors with their token vectors by text hash; a hash without token vectors is left out."""
    found: dict[str, StoredVector] = {}
    for batch in in_batches(set(hashes)):
        rows = session.execute(
            select(VectorRow.text_hash, VectorRow.vector, VectorRow.tokens, VectorRow.n_tokens).where(
                VectorRow.fingerprint == fingerprint,
                VectorRow.text_hash.in_(batch),
                VectorRow.tokens.is_not(None),
            )
        )
        for text_hash, vector, tokens, n_tokens in rows:
            found[text_hash] = StoredVector(
                text_hash=text_hash, vector=vector, tokens=tokens, n_tokens=n_tokens
            )
    return found


def save(
    session: Session,
    fingerprint: str,
    dim: int,
    vectors: Iterable[StoredVector],
    *,
    now: datetime | None = None,
) -> None:
    """Keep vectors; those that are there stay as they are, but gain token vectors that they lacked."""
    now = now or utc_now()
    statement = insert(session, VectorRow)
    statement = statement.on_conflict_do_update(
        index_elements=[VectorRow.fingerprint, VectorRow.text_hash],
        set_={"tokens": statement.excluded.tokens, "n_tokens": statement.excluded.n_tokens},
        where=VectorRow.tokens.is_(None) & statement.excluded.tokens.is_not(None),
    )
    # In one order everywhere, so that two workers that save the same texts cannot wait for each other in a
    # circle.
    ordered = sorted(
        {vector.text_hash: vector for vector in vectors}.values(), key=lambda vector: vector.text_hash
    )
    for batch in in_batches(ordered):
        session.execute(
            statement,
            [
                {
                    "fingerprint": fingerprint,
                    "text_hash": vector.text_hash,
                    "dim": dim,
                    "vector": vector.vector,
                    "tokens": vector.tokens,
                    "n_tokens": vector.n_tokens,
                    "created_at": now,
                }
                for vector in batch
            ],
        )


def forget_unused(session: Session, hashes: Iterable[str]) -> int:
    """Drop the vectors of those of the texts that no chunk and no node has any more; how many went.

    An ingest that is about to use one finds it missing when it commits to the index, and encodes anew.
    """
    n_gone = 0
    for batch in in_batches(sorted(set(hashes))):
        n_gone += _forget(session, VectorRow.text_hash.in_(batch), ~needed())
    return n_gone


def needed() -> ColumnElement[bool]:
    """Of a vector: that some chunk or node has its text."""
    of_chunk = exists().where(ChunkRow.text_hash == VectorRow.text_hash)
    return of_chunk | exists().where(NodeRow.text_hash == VectorRow.text_hash)


def forget_collection(session: Session, collection_id: int) -> int:
    """Drop the vectors of texts that only chunks and nodes of this collection have; how many went."""
    own, others = aliased(ChunkRow), aliased(ChunkRow)
    own_nodes, other_nodes = aliased(NodeRow), aliased(NodeRow)
    members = select(DocumentRow.id).where(DocumentRow.collection_id == collection_id)
    own_texts = select(own.text_hash).where(own.document_id.in_(members))
    node_texts = select(own_nodes.text_hash).where(own_nodes.collection_id == collection_id)
    return _forget(
        session,
        VectorRow.text_hash.in_(own_texts.union(node_texts)),
        ~exists().where(others.text_hash == VectorRow.text_hash, others.document_id.not_in(members)),
        ~exists().where(
            other_nodes.text_hash == VectorRow.text_hash, other_nodes.collection_id != collection_id
        ),
    )


def _forget(session: Session, *where: ColumnElement[bool]) -> int:
    # Locked in the order of `save`, so that the two cannot wait for each other in a circle.
    keys = select(VectorRow.fingerprint, VectorRow.text_hash).where(*where)
    ordered = keys.order_by(VectorRow.text_hash, VectorRow.fingerprint).with_for_update()
    n_gone = 0
    for batch in in_batches([tuple(key) for key in session.execute(ordered)], 200):
        statement = delete(VectorRow).where(tuple_(VectorRow.fingerprint, VectorRow.text_hash).in_(batch))
        rows = session.execute(
            statement.returning(VectorRow.text_hash).execution_options(synchronize_session=False)
        )
        n_gone += len(rows.all())
    return n_gone
