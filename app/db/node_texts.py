"""Nodes as an encoder and an index take chunks: `of_nodes`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from app.db.chunks import ChunkText
from app.db.dialects import in_batches
from app.db.tables import NodeRow, VectorRow
from indexing.nodes import NO_DOCUMENT


def of_nodes(session: Session, node_ids: Iterable[int], fingerprint: str) -> Iterator[ChunkText]:
    """These nodes, by id, with the kept vectors of one encoder."""
    same_text = and_(VectorRow.text_hash == NodeRow.text_hash, VectorRow.fingerprint == fingerprint)
    columns = (NodeRow.id, NodeRow.document_id, NodeRow.text_hash, NodeRow.text, VectorRow.vector)
    for batch in in_batches(sorted(set(node_ids))):
        statement = select(*columns).outerjoin(VectorRow, same_text).where(NodeRow.id.in_(batch))
        for key, owner, text_hash, text, vector in session.execute(statement.order_by(NodeRow.id)):
            yield ChunkText(key, NO_DOCUMENT if owner is None else owner, text_hash, text, vector)
