"""Growing a tree: a layer of summaries over items, layer upon layer.

Each long document gets a tree of its own, of at most `DOCUMENT_LAYERS` layers; what stands at its top, and
the chunks of short documents, are the items over which the layers of the collection are grown. So a document
that changes touches its own tree and what rests on it, and no summary below mixes documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from indexing.nodes import Node, NodeId
from indexing.tree.clustering import ClusterSpec, clusters, fitting
from indexing.tree.summaries import Summariser
from indexing.types import ChunkId, DocumentId, Floats

DOCUMENT_LAYERS = 2
LAYERS = 5
"""With those of the documents."""
FEW = 11
"""Over so many items no layer is grown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSpec:
    """How trees grow; a document with at least `long_document` chunks gets one of its own."""

    clustering: ClusterSpec = field(default_factory=ClusterSpec)
    long_document: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A chunk or a node as a layer above sees it; `vector` has length 1. `id` is unique among all."""

    id: int
    is_node: bool
    text: str
    vector: Floats
    n_tokens: int
    document_id: DocumentId | None = None


Encode = Callable[[Sequence[str]], Floats]
"""Vectors of length 1 of texts, shape (n_texts, dim)."""
CountTokens = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grower:
    """What layers are grown with. `known` are summaries that were written before, by the ids below them;
    `n_parallel` are written at once, which helps where a server writes them."""

    spec: TreeSpec
    summariser: Summariser
    encode: Encode
    count_tokens: CountTokens
    known: Mapping[frozenset[int], str] = field(default_factory=dict)
    n_parallel: int = 1

    def plan(self, items: Sequence[Item]) -> list[tuple[Item, ...]]:
        """The clusters of a layer, each with its members by id. The same items in any order give the same."""
        ordered = sorted(items, key=lambda item: item.id)
        if not ordered:
            return []
        vectors = np.stack([item.vector for item in ordered])
        n_tokens = [item.n_tokens for item in ordered]
        return [
            tuple(ordered[place] for place in members)
            for members in clusters(vectors, n_tokens, self.spec.clustering)
        ]

    def split(self, items: Sequence[Item]) -> list[tuple[Item, ...]]:
        """The items as one cluster, or in parts where that is too large."""
        ordered = sorted(items, key=lambda item: item.id)
        vectors = np.stack([item.vector for item in ordered])
        parts = fitting(vectors, [item.n_tokens for item in ordered], self.spec.clustering)
        return [tuple(ordered[place] for place in members) for members in parts]

    def summarise(self, members: Sequence[Item], level: int, document_id: DocumentId | None) -> Node | None:
        """The node over a cluster; None where its texts have nothing to summarise."""
        text = self.known.get(frozenset(item.id for item in members))
        if text is None:
            text = self.summariser.summarise([item.text for item in members])
        if not text.strip():
            return None
        return Node(
            kind="summary",
            text=text,
            chunks=tuple(ChunkId(item.id) for item in members if not item.is_node),
            nodes=tuple(NodeId(item.id) for item in members if item.is_node),
            level=level,
            document_id=document_id,
            model=self.summariser.name,
        )

    def as_items(self, nodes: Sequence[Node]) -> list[Item]:
        """Nodes as the next layer sees them."""
        texts = [node.text for node in nodes]
        if not texts:
            return []
        return [
            Item(
                id=node.id,
                is_node=True,
                text=node.text,
                vector=vector,
                n_tokens=n,
                document_id=node.document_id,
            )
            for node, vector, n in zip(nodes, self.encode(texts), self.count_tokens(texts), strict=True)
        ]

    def layer(
        self,
        items: Sequence[Item],
        level: int,
        document_id: DocumentId | None = None,
    ) -> list[Node]:
        """The nodes over some items."""
        return self.summaries(self.plan(items), level, document_id)

    def summaries(
        self, planned: Sequence[Sequence[Item]], level: int, document_id: DocumentId | None = None
    ) -> list[Node]:
        """The nodes over some clusters, in their order."""

        def summarise(members: Sequence[Item]) -> Node | None:
            return self.summarise(members, level, document_id)

        if self.n_parallel == 1:
            # Without a thread: starting one waits for ever where memory is too short for it to begin.
            made = list(map(summarise, planned))
        else:
            with ThreadPoolExecutor(self.n_parallel) as threads:
                made = list(threads.map(summarise, planned))
        return list({node.id: node for node in made if node is not None}.values())

    def document_tree(self, chunks: Sequence[Item], document_id: DocumentId) -> Iterator[list[Node]]:
        """The layers over the chunks of one long document, from the lowest."""
        items = list(chunks)
        for level in range(1, DOCUMENT_LAYERS + 1):
            if level > 1 and len(items) <= FEW:
                return
            nodes = self.layer(items, level, document_id)
            if not nodes:
                return
            yield nodes
            items = self.as_items(nodes)

    def is_long(self, n_chunks: int) -> bool:
        return n_chunks >= self.spec.long_document


def collection_levels() -> range:
    """The levels of the layers over documents."""
    return range(DOCUMENT_LAYERS + 1, LAYERS + 1)


def tops(layers: Sequence[Sequence[Node]]) -> list[Node]:
    """The nodes of a document's tree on which none of it rests."""
    below = {child for layer in layers for node in layer for child in node.nodes}
    return [node for layer in layers for node in layer if node.id not in below]
