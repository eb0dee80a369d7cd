"""The nodes of a collection as retrievers see them: an index of each kind, and what nodes rest on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from indexing.nodes import NodeId, NodeKind
from indexing.snapshot import Snapshot
from indexing.types import ChunkId, Ids

Children = tuple[Sequence[ChunkId], Sequence[NodeId]]
"""The chunks and the nodes that a node rests on, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """`open` gives the index of a kind, None where there is no node of it: its chunk ids are node ids, its
    document ids those of the nodes, `NO_DOCUMENT` for a node over several documents.

    `leaves` gives the chunks under each node (sorted ids), at whatever distance, and `children` what it rests
    on directly. A node that has gone since has none. `roots` are the nodes of a kind on which none rests,
    sorted. `heads` gives the nodes of a kind whose first child each of these chunks is.
    """

    open: Callable[[NodeKind], Snapshot | None]
    leaves: Callable[[Sequence[int]], Mapping[int, Ids]]
    children: Callable[[Sequence[int]], Mapping[int, Children]]
    roots: Callable[[NodeKind], Ids]
    heads: Callable[[NodeKind, Sequence[int]], Mapping[int, Sequence[NodeId]]] = lambda _kind, _ids: {}


def _none(_kind: NodeKind) -> None:
    return None


def _no_ids(_kind: NodeKind) -> Ids:
    return np.empty(0, dtype=np.int64)


NO_NODES = Nodes(open=_none, leaves=lambda _ids: {}, children=lambda _ids: {}, roots=_no_ids)
