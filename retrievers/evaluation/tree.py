"""The tree of summaries of an evaluated collection: grown once from its index, kept beside it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np

from indexing.encoding.base import Encoder
from indexing.nodes import NO_DOCUMENT, Node, NodeId, NodeKind
from indexing.snapshot import Snapshot
from indexing.tree.growing import FEW, Grower, Item, TreeSpec, collection_levels, tops
from indexing.tree.summaries import ExtractiveSummariser, Summariser
from indexing.types import ChunkId, DocumentId, Floats, Ids
from indexing.version import VersionWriter, create_version
from retrievers.evaluation.collection_index import Progress
from retrievers.evaluation.made_once import AllTexts, make_once
from retrievers.nodes import Nodes

_CHILDREN = "children.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeMaking:
    """How a tree is grown; `n_parallel` summaries are written at once."""

    spec: TreeSpec
    summariser: Summariser
    n_parallel: int = 1


class EvaluationTree:
    """The nodes of a collection's index; the tree is grown when it is first asked for."""

    def __init__(
        self,
        snapshot: Snapshot,
        texts: AllTexts,
        encoder: Encoder,
        progress: Progress,
        making: TreeMaking | None = None,
    ) -> None:
        """Without `making`, the tree is grown with defaults, and of the texts' own sentences."""
        self._snapshot = snapshot
        self._texts = texts
        self._encoder = encoder
        self._progress = progress
        self._making = making or TreeMaking(
            spec=TreeSpec(), summariser=ExtractiveSummariser(count_tokens=encoder.count_tokens)
        )

    @property
    def nodes(self) -> Nodes:
        return Nodes(
            open=lambda kind: self._opened[0] if kind == "summary" else None,
            leaves=self._leaves,
            children=lambda ids: {key: self._opened[1].get(key, ((), ())) for key in ids},
            roots=self._roots,
        )

    @cached_property
    def _opened(self) -> tuple[Snapshot | None, Mapping[int, tuple[Sequence[ChunkId], Sequence[NodeId]]]]:
        key = blake2b(
            f"{self._making.spec}\0{self._making.summariser.name}".encode(), digest_size=8
        ).hexdigest()
        directory = self._snapshot.directory.parent / f"tree-{key}"
        make_once(directory, self._write)
        children = json.loads((directory / _CHILDREN).read_text("utf-8"))
        below = {int(key): (chunks, nodes) for key, (chunks, nodes) in children.items()}
        return Snapshot.open(directory / "summary") if below else None, below

    def _write(self, directory: Path) -> None:
        nodes = list(self._grown())
        create_version(directory / "summary", replace(self._snapshot.manifest.spec, settings={}))
        with VersionWriter(directory / "summary") as writer, writer.commit(change=1) as commit:
            commit.add(
                chunk_ids=np.array([node.id for node in nodes], dtype=np.int64),
                document_ids=np.array([node.document_id or NO_DOCUMENT for node in nodes], dtype=np.int64),
                texts=[node.text for node in nodes],
                vectors=self._encode([node.text for node in nodes]),
            )
        children = {str(node.id): (node.chunks, node.nodes) for node in nodes}
        (directory / _CHILDREN).write_text(json.dumps(children), "utf-8")

    def _grown(self) -> Iterator[Node]:
        grower = Grower(
            spec=self._making.spec,
            summariser=self._making.summariser,
            encode=self._encode,
            count_tokens=self._encoder.count_tokens,
            n_parallel=self._making.n_parallel,
        )
        by_document = self._items()
        items: list[Item] = []
        for done, (document_id, chunks) in enumerate(by_document.items()):
            self._progress("tree", done, len(by_document))
            if not grower.is_long(len(chunks)):
                items += chunks
                continue
            layers = list(grower.document_tree(chunks, document_id))
            for layer in layers:
                yield from layer
            items += grower.as_items(tops(layers))
        for level in collection_levels():
            if len(items) <= FEW:
                return
            nodes = grower.layer(items, level)
            yield from nodes
            items = grower.as_items(nodes)

    def _items(self) -> dict[DocumentId, list[Item]]:
        """The chunks of each document, both by id."""
        ids = self._snapshot.chunk_ids()
        vectors = np.empty((len(ids), self._snapshot.segments.dim), dtype=np.float32)
        owners = np.empty(len(ids), dtype=np.int64)
        for segment, positions, rows in self._snapshot.segments.located(ids):
            vectors[positions] = segment.vectors.halves[rows]
            owners[positions] = segment.document_ids_of(rows)
        texts = [self._texts()[ChunkId(key)] for key in ids.tolist()]
        found: dict[DocumentId, list[Item]] = defaultdict(list)
        for key, owner, vector, text, n in zip(
            ids.tolist(), owners.tolist(), vectors, texts, self._encoder.count_tokens(texts), strict=True
        ):
            item = Item(
                id=key, is_node=False, text=text, vector=vector, n_tokens=n, document_id=DocumentId(owner)
            )
            found[DocumentId(owner)].append(item)
        return dict(sorted(found.items()))

    def _encode(self, texts: Sequence[str]) -> Floats:
        return self._encoder.encode_documents(list(texts)).vectors

    def _leaves(self, node_ids: Sequence[int]) -> dict[int, Ids]:
        return {key: np.array(sorted(self._below(key)), dtype=np.int64) for key in node_ids}

    def _below(self, node_id: int) -> set[int]:
        chunks, nodes = self._opened[1].get(node_id, ((), ()))
        return set(chunks).union(*(self._below(key) for key in nodes))

    def _roots(self, _kind: NodeKind) -> Ids:
        below = self._opened[1]
        rested_on = {key for _, nodes in below.values() for key in nodes}
        return np.array(sorted(below.keys() - rested_on), dtype=np.int64)
