"""Reranking in an evaluation, where hits are chunks without documents from a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from indexing.types import Chunk
from retrievers.base import Reranker
from retrievers.types import Hit, Passage, Query, Texts


def rerank_hits(
    reranker: Reranker, query: Query, hits: Sequence[Hit], texts: Texts, rerank_k: int
) -> list[Hit]:
    """The hits with the first `rerank_k` in the reranker's order, the others below as they were.

    Scores become minus the rank, since those of a reranker and of retrieval cannot be compared.
    """
    first = hits[:rerank_k]
    passages = [
        Passage(
            chunk=_chunk(hit, text), score=hit.score, rank=hit.rank, title=None, source="", scores=hit.scores
        )
        for hit, text in zip(first, texts([hit.chunk_id for hit in first]), strict=True)
    ]
    by_id = {hit.chunk_id: hit for hit in first}
    ordered = [
        replace(by_id[passage.chunk.id], scores=passage.scores)
        for passage in reranker.rerank(query, passages, len(passages))
    ]
    return [
        replace(hit, rank=rank, score=-float(rank))
        for rank, hit in enumerate([*ordered, *hits[rerank_k:]], start=1)
    ]


def _chunk(hit: Hit, text: str) -> Chunk:
    """A chunk whose contextual text is the text, headings included."""
    return Chunk(id=hit.chunk_id, document_id=hit.document_id, ordinal=0, text=text, start=0, end=len(text))
