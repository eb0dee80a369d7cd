"""Expansions and questions about the chunks of an evaluated collection: made once, kept beside its index."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np

from indexing.encoding.base import Encoder
from indexing.errors import LanguageModelError
from indexing.expansion import NeighbourExpander, NeighbourTerms
from indexing.expansion_questions import QuestionWriter, kept_of, relevance
from indexing.nodes import Node, NodeId, NodeKind
from indexing.snapshot import Snapshot
from indexing.types import ChunkId, Floats, Ids
from indexing.version import VersionWriter, create_version
from retrievers.evaluation.collection_index import Progress
from retrievers.evaluation.made_once import AllTexts, make_once
from retrievers.nodes import Children, Nodes

_HEADS = "heads.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What writes questions; the share `drop` of them, those least near to their chunk, is left out."""

    writer: QuestionWriter
    drop: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Parallel: the chunks that texts are about, the texts, and vectors of length 1, shape (n, dim)."""

    chunk_ids: Sequence[int]
    texts: Sequence[str]
    vectors: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What writes texts of a kind about chunks, `a_batch` of them at once; the same name writes the same."""

    kind: NodeKind
    name: str
    write: Callable[[Ids], Written]
    a_batch: int


class NodesAbout:
    """Nodes of one kind, each about one chunk; made when they are first asked for."""

    def __init__(self, source: Source, snapshot: Snapshot, progress: Progress) -> None:
        self._source = source
        self._snapshot = snapshot
        self._progress = progress

    def beside(self, others: Nodes) -> Nodes:
        """The nodes of the other kinds, and these."""
        kind = self._source.kind

        def opened(wanted: NodeKind) -> Snapshot | None:
            return self._opened[0] if wanted == kind else others.open(wanted)

        def children(node_ids: Sequence[int]) -> Mapping[int, Children]:
            # Only looked for here once they were asked for: to open them is to make them.
            ours = self._chunk_of if "_opened" in self.__dict__ else {}
            found = {key: ((ours[key],), ()) for key in node_ids if key in ours}
            rest = [key for key in node_ids if key not in ours]
            return {**found, **(others.children(rest) if rest else {})}

        def heads(wanted: NodeKind, chunk_ids: Sequence[int]) -> Mapping[int, Sequence[NodeId]]:
            if wanted != kind:
                return others.heads(wanted, chunk_ids)
            ours = self._opened[1]
            return {key: ours[key] for key in chunk_ids if key in ours}

        return replace(others, open=opened, children=children, heads=heads)

    @cached_property
    def _opened(self) -> tuple[Snapshot, Mapping[int, Sequence[NodeId]]]:
        """The index, and the nodes of each chunk."""
        key = blake2b(self._source.name.encode(), digest_size=8).hexdigest()
        directory = self._snapshot.directory.parent / f"{self._source.kind}-{key}"
        make_once(directory, self._write)
        heads = json.loads((directory / _HEADS).read_text("utf-8"))
        snapshot = Snapshot.open(directory / "nodes")
        return snapshot, {int(chunk_id): node_ids for chunk_id, node_ids in heads.items()}

    @cached_property
    def _chunk_of(self) -> Mapping[int, ChunkId]:
        heads = self._opened[1]
        return {node_id: ChunkId(chunk_id) for chunk_id, of in heads.items() for node_id in of}

    def _write(self, directory: Path) -> None:
        source, heads = self._source, dict[int, list[NodeId]]()
        create_version(directory / "nodes", replace(self._snapshot.manifest.spec, settings={}))
        every = self._snapshot.chunk_ids()
        with VersionWriter(directory / "nodes") as writer, writer.commit(change=1) as commit:
            for start in range(0, len(every), source.a_batch):
                self._progress("expand", start, len(every))
                made = source.write(every[start : start + source.a_batch])
                ids = [
                    Node(kind=source.kind, text=text, chunks=(ChunkId(key),), model=source.name).id
                    for key, text in zip(made.chunk_ids, made.texts, strict=True)
                ]
                for key, node_id in zip(made.chunk_ids, ids, strict=True):
                    heads.setdefault(key, []).append(node_id)
                commit.add(
                    chunk_ids=np.array(ids, dtype=np.int64),
                    document_ids=self._documents(np.array(made.chunk_ids, dtype=np.int64)),
                    texts=list(made.texts),
                    vectors=made.vectors,
                )
        (directory / _HEADS).write_text(json.dumps(heads), "utf-8")

    def _documents(self, chunk_ids: Ids) -> Ids:
        owners = np.empty(len(chunk_ids), dtype=np.int64)
        for segment, positions, rows in self._snapshot.segments.located(chunk_ids):
            owners[positions] = segment.document_ids_of(rows)
        return owners


def neighbour_expansions(snapshot: Snapshot, texts: AllTexts) -> Source:
    """Expansions by the words of neighbours, which ask no language model."""
    terms = NeighbourTerms()
    expander = NeighbourExpander(snapshot, lambda ids: [texts()[key] for key in ids], terms)

    def write(chunk_ids: Ids) -> Written:
        made = [expansion for expansion in expander.expand(chunk_ids) if expansion.words]
        about = [expansion.chunk_id for expansion in made]
        return Written(
            chunk_ids=about,
            texts=[" ".join(expansion.words) for expansion in made],
            # Only the words are searched: the chunk's own vector stands in for that of the words.
            vectors=snapshot.vectors.stored(np.array(about, dtype=np.int64)),
        )

    return Source(kind="expansion", name=terms.name, write=write, a_batch=512)


def written_questions(snapshot: Snapshot, texts: AllTexts, encoder: Encoder, questions: Questions) -> Source:
    """The questions of a language model; a chunk that it fails on has none.

    Where it fails on all chunks of a batch, LanguageModelError is raised.
    """

    def write(chunk_ids: Ids) -> Written:
        keys = [ChunkId(key) for key in chunk_ids.tolist()]
        outcomes = questions.writer.write([texts()[key] for key in keys])
        pairs = [
            (key, question)
            for key, said in zip(keys, outcomes, strict=True)
            if not isinstance(said, LanguageModelError)
            for question in said
        ]
        near = snapshot.vectors.stored(np.array([key for key, _ in pairs], dtype=np.int64))
        scores = relevance(encoder, [question for _, question in pairs], near)
        stays = kept_of(scores, questions.drop)
        kept = [pair for pair, stay in zip(pairs, stays.tolist(), strict=True) if stay]
        asked = [question for _, question in kept]
        return Written(
            chunk_ids=[key for key, _ in kept], texts=asked, vectors=encoder.encode_documents(asked).vectors
        )

    name = f"{questions.writer.name}-{questions.writer.n_questions}-{questions.drop:g}"
    return Source(kind="question", name=name, write=write, a_batch=32)
