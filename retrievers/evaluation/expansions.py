"""The expansions of an evaluated collection: made once of its index, kept beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from indexing.expansion import NeighbourExpander, NeighbourTerms
from indexing.nodes import Node, NodeId, NodeKind
from indexing.snapshot import Snapshot
from indexing.types import ChunkId, Ids
from indexing.version import VersionWriter, create_version
from retrievers.evaluation.collection_index import Progress
from retrievers.evaluation.made_once import AllTexts, make_once
from retrievers.nodes import Children, Nodes

CHUNKS_A_BATCH = 512
_HEADS = "heads.json"


class EvaluationExpansions:
    """Expansions by neighbours, since no language model is asked; made when they are first asked for."""

    def __init__(self, snapshot: Snapshot, texts: AllTexts, progress: Progress) -> None:
        self._snapshot = snapshot
        self._texts = texts
        self._progress = progress
        self._terms = NeighbourTerms()

    def beside(self, others: Nodes) -> Nodes:
        """The nodes of the other kinds, and the expansions."""

        def opened(kind: NodeKind) -> Snapshot | None:
            return self._opened[0] if kind == "expansion" else others.open(kind)

        def children(node_ids: Sequence[int]) -> Mapping[int, Children]:
            # Only looked for here once they were asked for: to open them is to make them.
            ours = self._chunk_of if "_opened" in self.__dict__ else {}
            found = {key: ((ours[key],), ()) for key in node_ids if key in ours}
            rest = [key for key in node_ids if key not in ours]
            return {**found, **(others.children(rest) if rest else {})}

        return replace(others, open=opened, children=children, heads=self._heads)

    @cached_property
    def _opened(self) -> tuple[Snapshot, Mapping[int, NodeId]]:
        """The index, and the node of each chunk."""
        directory = self._snapshot.directory.parent / f"expansions-{self._terms.name}"
        make_once(directory, self._write)
        heads = json.loads((directory / _HEADS).read_text("utf-8"))
        snapshot = Snapshot.open(directory / "expansion")
        return snapshot, {int(chunk_id): NodeId(node_id) for chunk_id, node_id in heads.items()}

    @cached_property
    def _chunk_of(self) -> Mapping[int, ChunkId]:
        return {node_id: ChunkId(chunk_id) for chunk_id, node_id in self._opened[1].items()}

    def _heads(self, kind: NodeKind, chunk_ids: Sequence[int]) -> Mapping[int, Sequence[NodeId]]:
        heads = self._opened[1] if kind == "expansion" else {}
        return {key: (heads[key],) for key in chunk_ids if key in heads}

    def _write(self, directory: Path) -> None:
        expander = NeighbourExpander(
            self._snapshot, lambda ids: [self._texts()[key] for key in ids], self._terms
        )
        heads: dict[str, int] = {}
        spec = replace(self._snapshot.manifest.spec, settings={})
        create_version(directory / "expansion", spec)
        every = self._snapshot.chunk_ids()
        with VersionWriter(directory / "expansion") as writer, writer.commit(change=1) as commit:
            for start in range(0, len(every), CHUNKS_A_BATCH):
                self._progress("expand", start, len(every))
                batch = every[start : start + CHUNKS_A_BATCH]
                made = [expansion for expansion in expander.expand(batch) if expansion.words]
                chunk_ids = np.array([expansion.chunk_id for expansion in made], dtype=np.int64)
                texts = [" ".join(expansion.words) for expansion in made]
                ids = [
                    Node(kind="expansion", text=text, chunks=(key,), model=self._terms.name).id
                    for key, text in zip(chunk_ids.tolist(), texts, strict=True)
                ]
                heads |= {str(key): node_id for key, node_id in zip(chunk_ids.tolist(), ids, strict=True)}
                commit.add(
                    chunk_ids=np.array(ids, dtype=np.int64),
                    document_ids=self._documents(chunk_ids),
                    texts=texts,
                    # Only the words are searched: the chunk's own vector stands in for that of the words.
                    vectors=self._snapshot.vectors.stored(chunk_ids),
                )
        (directory / _HEADS).write_text(json.dumps(heads), "utf-8")

    def _documents(self, chunk_ids: Ids) -> Ids:
        owners = np.empty(len(chunk_ids), dtype=np.int64)
        for segment, positions, rows in self._snapshot.segments.located(chunk_ids):
            owners[positions] = segment.document_ids_of(rows)
        return owners
