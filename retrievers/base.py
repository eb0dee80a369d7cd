"""The protocols of the read path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from retrievers.types import Hit, Passage, Query


class Retriever(Protocol):
    """Finds chunks in one immutable snapshot. Safe to call from several threads."""

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        """One list per query, best first, ties by chunk id, at most `top_k` long."""


class Reranker(Protocol):
    """Orders passages anew; the same type in and out, so that steps compose."""

    def rerank(self, query: Query, passages: Sequence[Passage], top_k: int) -> list[Passage]: ...
