"""Trees of summaries as the database has them: `State` (`state` · `keep_state` · `all_states`) · `kept` ·
`n_chunks_by_document`. The caller commits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import collections, nodes
from app.db.dialects import in_batches
from app.db.tables import ChunkRow, CollectionRow, DocumentRow, NodeRow
from indexing.nodes import Node, NodeId
from indexing.types import DocumentId

_KEY = "tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a collection's tree was made with, the last change it has seen, the level that was being made
    wholly anew when it was last written (0: none), and the index version that has all its nodes."""

    model: str
    chunker: str
    change: int = -1
    level: int = 0
    version: str = ""


def state(session: Session, collection_id: int) -> State | None:
    """None where the collection has no tree."""
    return _state(collections.get(session, collection_id))


def all_states(session: Session) -> list[tuple[CollectionRow, State]]:
    """The collections that have a tree."""
    rows = [(row, _state(row)) for row in collections.list_all(session)]
    return [(row, found) for row, found in rows if found is not None]


def keep_state(session: Session, collection_id: int, value: State | None) -> None:
    """Records the state; None: no tree any more."""
    collections.lock(session, collection_id)
    row = collections.get(session, collection_id)
    others = {key: found for key, found in row.settings.items() if key != _KEY}
    row.settings = others if value is None else {**others, _KEY: asdict(value)}


def kept(
    session: Session,
    collection_id: int,
    chunker: str,
    *,
    document_ids: Iterable[int] | None = None,
    level: int | None = None,
) -> dict[NodeId, Node]:
    """The summaries of documents, or those over several on a level, by the ids under which they are kept."""
    base = select(NodeRow).where(
        NodeRow.collection_id == collection_id, NodeRow.chunker == chunker, NodeRow.kind == "summary"
    )
    rows: list[NodeRow] = []
    if document_ids is None:
        wanted = base.where(NodeRow.document_id.is_(None))
        rows += session.scalars(wanted if level is None else wanted.where(NodeRow.level == level))
    else:
        for batch in in_batches(sorted(set(document_ids))):
            rows += session.scalars(base.where(NodeRow.document_id.in_(batch)))
    below = nodes.children(session, [row.id for row in rows])
    return {NodeId(row.id): _node(row, *below[row.id]) for row in rows}


def n_chunks_by_document(session: Session, collection_id: int, chunker: str) -> dict[int, int]:
    """How many chunks each document has, by document id."""
    statement = (
        select(ChunkRow.document_id, func.count())
        .join(DocumentRow, DocumentRow.id == ChunkRow.document_id)
        .where(DocumentRow.collection_id == collection_id, ChunkRow.chunker == chunker)
        .group_by(ChunkRow.document_id)
        .order_by(ChunkRow.document_id)
    )
    return {int(document_id): int(n) for document_id, n in session.execute(statement)}


def _state(row: CollectionRow) -> State | None:
    found = row.settings.get(_KEY)
    return State(**found) if found else None


def _node(row: NodeRow, chunks: list[Any], below: list[NodeId]) -> Node:
    return Node(
        kind="summary",
        text=row.text,
        chunks=tuple(chunks),
        nodes=tuple(below),
        level=row.level,
        document_id=None if row.document_id is None else DocumentId(row.document_id),
        model=row.model,
    )
