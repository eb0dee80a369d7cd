"""BM25 in memory by the `rank-bm25` package: no index version needed, slow beyond some thousand chunks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from rank_bm25 import BM25Okapi

from indexing.analysis import build_analyzer
from indexing.types import ChunkId, DocumentId
from retrievers.hits import to_hits
from retrievers.types import Hit, Query


class RankBm25Retriever:
    """Okapi BM25 (k1 1.5, b .75) over the (chunk id, document id, contextual text) it is given.

    A chunk that scores zero or less is not a hit: it shares no term with the query, or only terms so common
    that the formula holds them against it.
    """

    def __init__(self, chunks: Iterable[tuple[ChunkId, DocumentId, str]]) -> None:
        self._analyzer = build_analyzer()
        rows = [
            (chunk_id, document_id, self._analyzer.analyze(text)) for chunk_id, document_id, text in chunks
        ]
        self._chunk_ids = np.array([chunk_id for chunk_id, _, _ in rows], dtype=np.int64)
        self._document_ids = np.array([document_id for _, document_id, _ in rows], dtype=np.int64)
        tokens = [tokens for _, _, tokens in rows]
        # The package divides by the number of tokens in the collection.
        self._bm25 = BM25Okapi(tokens) if any(tokens) else None

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        if self._bm25 is None:
            return []
        scores = np.asarray(self._bm25.get_scores(self._analyzer.analyze(query.text)), dtype=np.float32)
        kept = scores > 0
        if query.allowed_documents is not None:
            kept &= np.isin(self._document_ids, query.allowed_documents)
        scores = scores[kept]
        return to_hits(
            self._chunk_ids[kept], self._document_ids[kept], {"rank_bm25": scores}, by=scores, top_k=top_k
        )
