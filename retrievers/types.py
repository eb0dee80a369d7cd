"""Values of the read path: a query, a hit, a passage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from indexing.types import Chunk, ChunkId, DocumentId, Floats, Ids, TokenVectors

Mode = Literal[
    "auto",
    "bm25",
    "rank_bm25",
    "dense",
    "hybrid",
    "rrf",
    "late",
    "fused",
    "ngram",
    "sparse",
    "funnel",
    "tree",
    "tree_traversal",
    "expanded",
    "questions",
    "prf",
    "rm3",
]

Texts = Callable[[Sequence[ChunkId]], Sequence[str]]
"""The contextual texts of chunks of the snapshot, in the order asked for; "" for one that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for.

    `allowed_documents` is a sorted int64 array of document ids, or None for no restriction. A retriever
    that cannot honour it raises; k allowed chunks exist → k hits come back. `vector` (shape (dim,), length 1)
    and `tokens` are the query's encoding where a retriever needs one.
    """

    text: str
    allowed_documents: Ids | None = None
    vector: Floats | None = None
    tokens: TokenVectors | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A chunk found; `rank` counts from 1. `scores` keeps the raw score of every retriever that scored it.

    After a fusion, `ranks` are those in the lists that have the chunk, and `shares` what each list added to
    the score, which is their sum.
    """

    chunk_id: ChunkId
    document_id: DocumentId
    score: float
    rank: int
    scores: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A hit whose chunk was authorised and loaded, with what a citation needs of its document."""

    chunk: Chunk
    score: float
    rank: int
    title: str | None
    source: str
    scores: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
