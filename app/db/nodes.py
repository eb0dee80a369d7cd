"""Nodes of a collection: texts that lead to chunks and are no source.

Write: `save` · `forget_resting_on` · `forget` · `forget_kind`. Read: `count` · `signature` · `ids` · `load` ·
`leaves` · `children` · `levels` · `dangling`. The caller commits.

A node must not outlive a chunk that it rests on, since it may tell what stood there: whoever removes chunks
calls `forget_resting_on` in the same transaction, and `save` leaves out what rests on something that is gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.orm import Session, aliased

from app.db import collections, vectors
from app.db.dialects import in_batches, insert
from app.db.tables import ChunkRow, NodeChildRow, NodeRow
from app.db.types import utc_now
from indexing.nodes import Node, NodeId, NodeKind
from indexing.types import ChunkId, Ids

ChildKind = Literal["chunk", "node"]
_CHILD = aliased(NodeRow)
SIGNATURE_PRIME = 2_147_483_647


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What went: rows by table."""

    nodes: int = 0
    node_children: int = 0
    vectors: int = 0


def save(
    session: Session,
    collection_id: int,
    chunker: str,
    nodes: Iterable[Node],
    *,
    now: datetime | None = None,
) -> set[NodeId]:
    """Keeps nodes over chunks of a chunker; gives the ids of those that are kept.

    Left out is what rests on a chunk or a node that is not there (any more), or on nothing. Children come
    before parents. Saving a node twice changes nothing. The collection stays locked until the commit, so that
    no chunk goes meanwhile.
    """
    collections.lock(session, collection_id)
    kept: set[NodeId] = set()
    by_level: dict[int, list[Node]] = defaultdict(list)
    for node in nodes:
        by_level[node.level].append(node)
    for level in sorted(by_level):
        for batch in in_batches(by_level[level], 200):
            kept |= _save(session, collection_id, chunker, batch, now or utc_now())
    return kept


def _save(
    session: Session, collection_id: int, chunker: str, nodes: Sequence[Node], now: datetime
) -> set[NodeId]:
    chunks = _present_chunks(session, {key for node in nodes for key in node.chunks}, chunker)
    below = _present_nodes(session, {key for node in nodes for key in node.nodes})
    whole = {
        node.id: node
        for node in nodes
        if (node.chunks or node.nodes) and chunks.issuperset(node.chunks) and below.issuperset(node.nodes)
    }
    if not whole:
        return set()
    session.execute(
        insert(session, NodeRow).on_conflict_do_nothing(),
        [
            {
                "id": node_id,
                "collection_id": collection_id,
                "chunker": chunker,
                "kind": node.kind,
                "level": node.level,
                "text": node.text,
                "text_hash": node.text_hash,
                "document_id": node.document_id,
                "model": node.model,
                "created_at": now,
            }
            for node_id, node in whole.items()
        ],
    )
    children = [row for node_id, node in whole.items() for row in _child_rows(node_id, node)]
    for batch in in_batches(children):
        session.execute(insert(session, NodeChildRow).on_conflict_do_nothing(), batch)
    return set(whole)


def _child_rows(node_id: int, node: Node) -> Iterator[dict[str, object]]:
    of_kind: tuple[tuple[ChildKind, Sequence[int]], ...] = (("chunk", node.chunks), ("node", node.nodes))
    for kind, keys in of_kind:
        for position, key in enumerate(keys):
            yield {"node_id": node_id, "child_kind": kind, "child_id": key, "position": position}


def forget_resting_on(session: Session, chunk_ids: Iterable[int]) -> Forgotten:
    """Removes every node that rests on one of these chunks, at whatever distance, and its kept vector.

    Called when the chunks go, before the caller forgets the vectors of their own texts.
    """
    found: set[int] = set()
    for batch in in_batches(chunk_ids):
        found |= _parents(session, "chunk", batch)
    return forget(session, found)


def forget(session: Session, node_ids: Iterable[int]) -> Forgotten:
    """Removes nodes with all that rest on them, and the vectors of texts that nothing else has."""
    n_nodes = n_children = 0
    hashes: set[str] = set()
    for batch in in_batches(sorted(_with_ancestors(session, node_ids))):
        options = {"synchronize_session": False}
        links = delete(NodeChildRow).where(NodeChildRow.node_id.in_(batch)).returning(NodeChildRow.node_id)
        n_children += len(session.execute(links.execution_options(**options)).all())
        removed = delete(NodeRow).where(NodeRow.id.in_(batch)).returning(NodeRow.text_hash)
        texts = session.scalars(removed.execution_options(**options)).all()
        n_nodes += len(texts)
        hashes.update(texts)
    n_vectors = vectors.forget_unused(session, hashes)
    return Forgotten(nodes=n_nodes, node_children=n_children, vectors=n_vectors)


def forget_kind(
    session: Session, collection_id: int, kind: NodeKind, *, chunker: str | None = None, limit: int = 1000
) -> int:
    """Removes some nodes of a kind, under one chunker or all; how many went, 0 when none is left."""
    statement = select(NodeRow.id).where(NodeRow.collection_id == collection_id, NodeRow.kind == kind)
    if chunker is not None:
        statement = statement.where(NodeRow.chunker == chunker)
    some = session.scalars(statement.order_by(NodeRow.level.desc(), NodeRow.id).limit(limit)).all()
    return forget(session, some).nodes


def count(session: Session, collection_id: int, *, kind: NodeKind | None = None) -> int:
    """How many nodes a collection has."""
    statement = select(func.count()).select_from(NodeRow).where(NodeRow.collection_id == collection_id)
    if kind is not None:
        statement = statement.where(NodeRow.kind == kind)
    return session.scalars(statement).one()


def levels(session: Session, collection_id: int, chunker: str, kind: NodeKind) -> dict[int, int]:
    """How many nodes there are on each level, from the lowest."""
    statement = (
        select(NodeRow.level, func.count())
        .where(*_of(collection_id, chunker, kind))
        .group_by(NodeRow.level)
        .order_by(NodeRow.level)
    )
    return {int(level): int(n) for level, n in session.execute(statement)}


def signature(session: Session, collection_id: int, chunker: str, kind: NodeKind) -> tuple[int, int]:
    """How many nodes there are, and the sum of their ids modulo a prime: equal where the ids are."""
    total = func.coalesce(func.sum(NodeRow.id % SIGNATURE_PRIME), 0)
    n, ids_sum = session.execute(select(func.count(), total).where(*_of(collection_id, chunker, kind))).one()
    return int(n), int(ids_sum)


def ids(session: Session, collection_id: int, chunker: str, kind: NodeKind) -> Ids:
    """The ids of all nodes of a kind, sorted, int64."""
    statement = select(NodeRow.id).where(*_of(collection_id, chunker, kind))
    return np.sort(np.fromiter(session.scalars(statement), dtype=np.int64))


def roots(session: Session, collection_id: int, chunker: str, kind: NodeKind) -> Ids:
    """The ids of the nodes on which none rests, sorted, int64."""
    rested_on = exists().where(NodeChildRow.child_kind == "node", NodeChildRow.child_id == NodeRow.id)
    statement = select(NodeRow.id).where(*_of(collection_id, chunker, kind), ~rested_on)
    return np.sort(np.fromiter(session.scalars(statement), dtype=np.int64))


def dangling(session: Session, collection_id: int) -> set[int]:
    """The nodes that rest on a chunk or a node that is not there, or on nothing."""
    children = (
        select(NodeRow.id)
        .outerjoin(NodeChildRow, NodeChildRow.node_id == NodeRow.id)
        .where(
            NodeRow.collection_id == collection_id,
            ~exists().where(NodeChildRow.child_kind == "chunk", ChunkRow.id == NodeChildRow.child_id),
            ~exists().where(NodeChildRow.child_kind == "node", _CHILD.id == NodeChildRow.child_id),
        )
    )
    return set(session.scalars(children.distinct()))


def load(session: Session, node_ids: Iterable[int]) -> dict[int, NodeRow]:
    """The nodes that are there, by id."""
    found: dict[int, NodeRow] = {}
    for batch in in_batches(sorted(set(node_ids))):
        found.update((row.id, row) for row in session.scalars(select(NodeRow).where(NodeRow.id.in_(batch))))
    return found


def children(session: Session, node_ids: Iterable[int]) -> dict[int, tuple[list[ChunkId], list[NodeId]]]:
    """The chunks and the nodes that each of these nodes rests on, in order; none for one that has gone."""
    found: dict[int, tuple[list[ChunkId], list[NodeId]]] = {key: ([], []) for key in node_ids}
    for batch in in_batches(sorted(found)):
        statement = (
            select(NodeChildRow.node_id, NodeChildRow.child_kind, NodeChildRow.child_id)
            .where(NodeChildRow.node_id.in_(batch))
            .order_by(NodeChildRow.node_id, NodeChildRow.position, NodeChildRow.child_id)
        )
        for node_id, kind, child_id in session.execute(statement):
            chunk_ids, below = found[node_id]
            if kind == "chunk":
                chunk_ids.append(ChunkId(child_id))
            else:
                below.append(NodeId(child_id))
    return found


def leaves(session: Session, node_ids: Iterable[int]) -> dict[int, Ids]:
    """The chunks under each of these nodes, at whatever distance, sorted; none for one that has gone."""
    wanted = list(dict.fromkeys(int(key) for key in node_ids))
    known: dict[int, tuple[list[ChunkId], list[NodeId]]] = {}
    new: Collection[int] = wanted
    while new:
        known |= children(session, new)
        new = {child for key in new for child in known[key][1]} - known.keys()
    return {key: np.array(sorted(_leaves_of(key, known)), dtype=np.int64) for key in wanted}


def _leaves_of(node_id: int, known: Mapping[int, tuple[list[ChunkId], list[NodeId]]]) -> set[ChunkId]:
    seen, found = {node_id}, set[ChunkId]()
    waiting = [node_id]
    while waiting:
        chunk_ids, below = known[waiting.pop()]
        found.update(chunk_ids)
        new = set(below) - seen
        seen |= new
        waiting += new
    return found


def _parents(session: Session, kind: ChildKind, child_ids: Sequence[int]) -> set[int]:
    statement = select(NodeChildRow.node_id).where(
        NodeChildRow.child_kind == kind, NodeChildRow.child_id.in_(child_ids)
    )
    return set(session.scalars(statement.distinct()))


def _with_ancestors(session: Session, node_ids: Iterable[int]) -> set[int]:
    found = set(node_ids)
    new = found
    while new:
        above: set[int] = set()
        for batch in in_batches(sorted(new)):
            above |= _parents(session, "node", batch)
        new = above - found
        found |= new
    return found


def _present_chunks(session: Session, chunk_ids: set[ChunkId], chunker: str) -> set[int]:
    found: set[int] = set()
    for batch in in_batches(sorted(chunk_ids)):
        found.update(
            session.scalars(select(ChunkRow.id).where(ChunkRow.id.in_(batch), ChunkRow.chunker == chunker))
        )
    return found


def _present_nodes(session: Session, node_ids: set[NodeId]) -> set[int]:
    found: set[int] = set()
    for batch in in_batches(sorted(node_ids)):
        found.update(session.scalars(select(NodeRow.id).where(NodeRow.id.in_(batch))))
    return found


def _of(collection_id: int, chunker: str, kind: NodeKind) -> tuple[ColumnElement[bool], ...]:
    return NodeRow.collection_id == collection_id, NodeRow.chunker == chunker, NodeRow.kind == kind
