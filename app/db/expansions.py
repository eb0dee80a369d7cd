"""What chunks are found by beside their own text: nodes whose first child is the chunk.

Read: `missing` · `n_missing` · `heads_of` · `superseded` · `all_wanted`. Write: `want`. The caller commits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from app.db import chunks, collections
from app.db.chunks import ChunkText
from app.db.dialects import in_batches
from app.db.tables import ChunkRow, DocumentRow, NodeChildRow, NodeRow
from indexing.nodes import NodeId, NodeKind

WANTED = "expansions"
"""In a collection's settings: what wrote the nodes of each kind that are to be kept up."""


def missing(
    session: Session,
    collection_id: int,
    chunker: str,
    kind: NodeKind,
    model: str,
    *,
    after: int | None = None,
    limit: int = 1000,
) -> list[ChunkText]:
    """The next chunks, by id, that have no node of the kind by that model; without vectors."""
    statement = select(ChunkRow.id).where(*_lacking(collection_id, chunker, kind, model))
    if after is not None:
        statement = statement.where(ChunkRow.id > after)
    found: list[ChunkText] = []
    for batch in in_batches(session.scalars(statement.order_by(ChunkRow.id).limit(limit)).all()):
        rows = chunks.with_vectors(fingerprint="").where(ChunkRow.id.in_(batch)).order_by(ChunkRow.id)
        found += map(chunks.chunk_text, session.execute(rows))
    return found


def n_missing(session: Session, collection_id: int, chunker: str, kind: NodeKind, model: str) -> int:
    """How many chunks have no node of the kind by that model."""
    lacking = _lacking(collection_id, chunker, kind, model)
    return session.scalars(select(func.count(ChunkRow.id)).where(*lacking)).one()


def heads_of(session: Session, kind: NodeKind, chunk_ids: Iterable[int]) -> dict[int, list[NodeId]]:
    """The nodes of a kind that each of these chunks is found by, sorted; no entry for one without any."""
    found: dict[int, list[NodeId]] = {}
    for batch in in_batches(sorted(set(chunk_ids))):
        statement = (
            select(NodeChildRow.child_id, NodeChildRow.node_id)
            .join(NodeRow, NodeRow.id == NodeChildRow.node_id)
            .where(*_heads(kind), NodeChildRow.child_id.in_(batch))
            .order_by(NodeChildRow.child_id, NodeChildRow.node_id)
        )
        for chunk_id, node_id in session.execute(statement):
            found.setdefault(chunk_id, []).append(NodeId(node_id))
    return found


def superseded(session: Session, kind: NodeKind, model: str, chunk_ids: Iterable[int]) -> set[int]:
    """The nodes of the kind that these chunks are found by and another model wrote."""
    found: set[int] = set()
    for batch in in_batches(sorted(set(chunk_ids))):
        statement = (
            select(NodeRow.id)
            .join(NodeChildRow, NodeChildRow.node_id == NodeRow.id)
            .where(*_heads(kind), NodeChildRow.child_id.in_(batch), NodeRow.model != model)
        )
        found.update(session.scalars(statement))
    return found


def all_wanted(session: Session) -> list[tuple[int, Literal["question", "expansion"], str]]:
    """What is to be kept up: collection, kind, and how (`llm` or `neighbours`)."""
    rows = collections.list_all(session)
    return [(row.id, kind, how) for row in rows for kind, how in row.settings.get(WANTED, {}).items()]


def want(session: Session, collection_id: int, kind: NodeKind, how: str | None) -> None:
    """Has a kind kept up for a collection from now on; None: no longer."""
    collections.lock(session, collection_id)
    row = collections.get(session, collection_id)
    others = {key: value for key, value in row.settings.get(WANTED, {}).items() if key != kind}
    row.settings = {**row.settings, WANTED: others if how is None else {**others, kind: how}}


def _lacking(collection_id: int, chunker: str, kind: NodeKind, model: str) -> tuple[ColumnElement[bool], ...]:
    of_collection = select(DocumentRow.id).where(DocumentRow.collection_id == collection_id)
    has_node = exists().where(
        *_heads(kind),
        NodeChildRow.child_id == ChunkRow.id,
        NodeRow.id == NodeChildRow.node_id,
        NodeRow.model == model,
    )
    return ChunkRow.document_id.in_(of_collection), ChunkRow.chunker == chunker, ~has_node


def _heads(kind: NodeKind) -> tuple[ColumnElement[bool], ...]:
    return NodeChildRow.child_kind == "chunk", NodeChildRow.position == 0, NodeRow.kind == kind
