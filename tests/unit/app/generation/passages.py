"""Passages of small documents, cut where a test wants them cut."""

from __future__ import annotations

from indexing.types import Chunk, ChunkId, DocumentId, stable_id
from retrievers.types import Passage

NILE = (
    "The Nile flows north through eleven countries. It is about 6650 kilometres long. "
    "Its two main tributaries are the White Nile and the Blue Nile."
)
AMAZON = "The Amazon carries more water than any other river. Its basin covers 7 million square kilometres."
GENEVA = "Lake Geneva lies between Switzerland and France. It freezes very rarely."
LIBRARY = {DocumentId(1): NILE, DocumentId(2): AMAZON, DocumentId(3): GENEVA}


def passage(
    text: str,
    start: int = 0,
    end: int | None = None,
    *,
    document: int = 1,
    rank: int = 1,
    score: float = 1.0,
    title: str | None = "A title",
) -> Passage:
    """Characters `[start, end)` of a document's text as a passage."""
    end = len(text) if end is None else end
    return Passage(
        chunk=Chunk(
            id=ChunkId(stable_id(document, start, end)),
            document_id=DocumentId(document),
            ordinal=0,
            text=text[start:end],
            start=start,
            end=end,
            page=1,
        ),
        score=score,
        rank=rank,
        title=title,
        source=f"{document}.txt",
    )


def library() -> list[Passage]:
    """Each document of LIBRARY as one passage, the first one best."""
    return [
        passage(text, document=document, rank=rank, score=1 - rank / 100)
        for rank, (document, text) in enumerate(LIBRARY.items(), start=1)
    ]
