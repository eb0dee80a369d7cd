"""Passages for rerankers."""

from __future__ import annotations

from indexing.types import Chunk, ChunkId, DocumentId
from retrievers.types import Passage


def passages_of(*texts: str) -> list[Passage]:
    """A passage for each text, in this order, with the ids 1, 2, … and a score from retrieval."""
    return [
        Passage(
            chunk=Chunk(
                id=ChunkId(number),
                document_id=DocumentId(1000 + number),
                ordinal=0,
                text=text,
                start=0,
                end=len(text),
            ),
            score=10.0 - number,
            rank=number,
            title=None,
            source=f"{number}.txt",
            scores={"bm25": 10.0 - number},
        )
        for number, text in enumerate(texts, start=1)
    ]


def ids(passages: list[Passage]) -> list[int]:
    return [passage.chunk.id for passage in passages]
