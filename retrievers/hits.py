"""From arrays to hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from indexing.types import ChunkId, DocumentId, Floats, Ids
from retrievers.fusion import reciprocal_rank_fusion
from retrievers.types import Hit


def to_hits(
    chunk_ids: Ids, document_ids: Ids, scores: Mapping[str, Floats], *, by: Floats, top_k: int
) -> list[Hit]:
    """The `top_k` hits with the highest `by`, best first, ties by chunk id; all arrays are parallel.

    `scores` are the raw scores that a hit keeps, by retriever.
    """
    order = np.lexsort((chunk_ids, -by))[:top_k]
    return [
        Hit(
            chunk_id=ChunkId(int(chunk_ids[place])),
            document_id=DocumentId(int(document_ids[place])),
            score=float(by[place]),
            rank=rank,
            scores={name: float(values[place]) for name, values in scores.items()},
        )
        for rank, place in enumerate(order, start=1)
    ]


def fuse_rankings(
    rankings: Sequence[Sequence[Hit]], weights: Sequence[float], *, k: int, top_k: int
) -> list[Hit]:
    """The hits of several searches as one ranking, by weighted reciprocal ranks.

    A hit keeps the highest score that each retriever gave it.
    """
    ids, fused = reciprocal_rank_fusion(
        [np.array([hit.chunk_id for hit in ranking], dtype=np.int64) for ranking in rankings],
        k=k,
        weights=weights,
    )
    documents: dict[int, DocumentId] = {}
    scores: dict[int, dict[str, float]] = {}
    for hit in (hit for ranking in rankings for hit in ranking):
        documents[hit.chunk_id] = hit.document_id
        kept = scores.setdefault(hit.chunk_id, {})
        for name, score in hit.scores.items():
            kept[name] = max(score, kept.get(name, score))
    order = np.lexsort((ids, -fused))[:top_k]
    return [
        Hit(
            chunk_id=ChunkId(int(ids[place])),
            document_id=documents[int(ids[place])],
            score=float(fused[place]),
            rank=rank,
            scores=scores[int(ids[place])],
        )
        for rank, place in enumerate(order, start=1)
    ]
