"""What writes questions and expansions of chunks: a language model, or the words of the nearest chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from app.db.chunks import ChunkText
from app.language_model import needed
from indexing.errors import LanguageModelError
from indexing.expansion import NeighbourExpander
from indexing.expansion_questions import QuestionWriter, kept_of, relevance
from indexing.nodes import Node
from indexing.types import ChunkId, DocumentId, Ids

if TYPE_CHECKING:
    from app.services import Services
    from app.versions.indexes import OpenIndex

ExpansionKind = Literal["question", "expansion"]
How = Literal["llm", "neighbours"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was made of some chunks."""

    nodes: Sequence[Node]
    n_dropped: int = 0
    n_failed: int = 0


class Writer(Protocol):
    """Makes nodes of chunks that are in the index."""

    @property
    def name(self) -> str: ...

    def write(self, chunks: Sequence[ChunkText]) -> Written: ...


def chosen_how(services: Services, kind: ExpansionKind) -> How:
    """What makes nodes of a kind, by the setting `expansion.model`.

    Raises InvalidRequest (`llm_not_configured`) where it needs a language model and none is set.
    """
    how = services.settings.expansion.model
    if kind == "expansion" and how != "llm":
        is_set = services.language_model is not None
        return "llm" if how == "auto" and is_set else "neighbours"
    needed(services.language_model, "Writing questions")
    return "llm"


def writer_for(services: Services, index: OpenIndex, kind: ExpansionKind, how: How) -> Writer:
    """Raises InvalidRequest (`llm_not_configured`)."""
    if how == "neighbours":
        return _OfNeighbours(index)
    settings = services.settings.expansion
    writer = QuestionWriter(
        model=needed(services.language_model, "Writing questions"),
        n_questions=settings.questions,
        seconds=settings.seconds,
        n_parallel=services.settings.llm.max_parallel,
    )
    return _OfQuestions(index, writer, kind, settings.drop)


class _OfNeighbours:
    """Expansions by the words of the nearest chunks. A node rests on all of them, and goes with any."""

    def __init__(self, index: OpenIndex) -> None:
        self._snapshot = index.snapshot
        self._expander = NeighbourExpander(index.snapshot, index.resources.texts)

    @property
    def name(self) -> str:
        return self._expander.name

    def write(self, chunks: Sequence[ChunkText]) -> Written:
        present = self._snapshot.segments.present(_ids(chunks))
        known = [chunk for chunk, here in zip(chunks, present, strict=True) if here]
        expansions_of = self._expander.expand(_ids(known))
        return Written(
            nodes=[
                Node(
                    kind="expansion",
                    text=" ".join(expansion.words),
                    chunks=(expansion.chunk_id, *expansion.neighbours),
                    document_id=DocumentId(chunk.document_id),
                    model=self.name,
                )
                for chunk, expansion in zip(known, expansions_of, strict=True)
                if expansion.words
            ]
        )


class _OfQuestions:
    """Questions by a language model: a node each, or all in one as an expansion."""

    def __init__(self, index: OpenIndex, writer: QuestionWriter, kind: ExpansionKind, drop: float) -> None:
        self._index = index
        self._writer = writer
        self._kind = kind
        self._drop = drop

    @property
    def name(self) -> str:
        return self._writer.name

    def write(self, chunks: Sequence[ChunkText]) -> Written:
        present = self._index.snapshot.segments.present(_ids(chunks))
        known = [chunk for chunk, here in zip(chunks, present, strict=True) if here]
        outcomes = self._writer.write([chunk.text for chunk in known])
        pairs = [
            (chunk, question)
            for chunk, said in zip(known, outcomes, strict=True)
            if not isinstance(said, LanguageModelError)
            for question in said
        ]
        kept = self._relevant(pairs)
        return Written(
            nodes=list(self._nodes(kept)),
            n_dropped=len(pairs) - len(kept),
            n_failed=sum(isinstance(said, LanguageModelError) for said in outcomes),
        )

    def _relevant(self, pairs: Sequence[tuple[ChunkText, str]]) -> list[tuple[ChunkText, str]]:
        if not pairs:
            return []
        vectors = self._index.snapshot.vectors.stored(_ids([chunk for chunk, _ in pairs]))
        scores = relevance(self._index.encoder, [question for _, question in pairs], vectors)
        return [pair for pair, kept in zip(pairs, kept_of(scores, self._drop), strict=True) if kept]

    def _nodes(self, pairs: Sequence[tuple[ChunkText, str]]) -> list[Node]:
        by_chunk: dict[int, tuple[ChunkText, list[str]]] = {}
        for chunk, question in pairs:
            by_chunk.setdefault(chunk.chunk_id, (chunk, []))[1].append(question)
        return [
            Node(
                kind=self._kind,
                text=text,
                chunks=(ChunkId(chunk.chunk_id),),
                document_id=DocumentId(chunk.document_id),
                model=self.name,
            )
            for chunk, questions in by_chunk.values()
            for text in (questions if self._kind == "question" else ["\n".join(questions)])
        ]


def _ids(chunks: Sequence[ChunkText]) -> Ids:
    return np.array([chunk.chunk_id for chunk in chunks], dtype=np.int64)
