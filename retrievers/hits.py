"""From arrays to hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from indexing.types import ChunkId, DocumentId, Floats, Ids
from retrievers.fusion import Doubles, ScoredList, fuse
from retrievers.types import Hit


def to_hits(
    chunk_ids: Ids,
    document_ids: Ids,
    scores: Mapping[str, Floats],
    *,
    by: Floats,
    top_k: int,
    shares: Mapping[str, Doubles] | None = None,
    ranks: Mapping[str, Ids] | None = None,
) -> list[Hit]:
    """The `top_k` hits with the highest `by`, best first, ties by chunk id; all arrays are parallel.

    `scores` are the raw scores that a hit keeps, by retriever; `shares` what each added to `by`, and `ranks`
    the ranks in their lists, 0 for a chunk that is not in one.
    """
    order = np.lexsort((chunk_ids, -by))[:top_k]
    shares, ranks = shares or {}, ranks or {}
    return [
        Hit(
            chunk_id=ChunkId(int(chunk_ids[place])),
            document_id=DocumentId(int(document_ids[place])),
            score=float(by[place]),
            rank=rank,
            scores={name: float(values[place]) for name, values in scores.items()},
            ranks={name: int(values[place]) for name, values in ranks.items() if values[place]},
            shares={name: float(values[place]) for name, values in shares.items()},
        )
        for rank, place in enumerate(order, start=1)
    ]


def ranks_in(chunk_ids: Ids, ranking: Ids) -> Ids:
    """The rank of each chunk (sorted ids), 0 where the ranking lacks it."""
    ranks = np.zeros(len(chunk_ids), dtype=np.int64)
    ranks[np.searchsorted(chunk_ids, ranking)] = np.arange(1, len(ranking) + 1)
    return ranks


def fuse_rankings(
    rankings: Sequence[Sequence[Hit]], weights: Sequence[float], *, k: int, top_k: int
) -> list[Hit]:
    """The hits of several searches as one ranking, by weighted reciprocal ranks.

    A hit keeps the highest score that each retriever gave it, and its rank in and share of every search, by
    the names `variant 1`, `variant 2` and so on.
    """
    lists = {
        f"variant {number}": ScoredList(
            ids=np.array([hit.chunk_id for hit in ranking], dtype=np.int64),
            scores=np.array([hit.score for hit in ranking], dtype=np.float32),
        )
        for number, ranking in enumerate(rankings, start=1)
    }
    fused = fuse(lists, "weighted_rrf", weights=dict(zip(lists, weights, strict=True)), k=k)
    documents: dict[int, DocumentId] = {}
    scores: dict[int, dict[str, float]] = {}
    ranks: dict[int, dict[str, int]] = {}
    for list_name, ranking in zip(lists, rankings, strict=True):
        for hit in ranking:
            documents[hit.chunk_id] = hit.document_id
            ranks.setdefault(hit.chunk_id, {})[list_name] = hit.rank
            kept = scores.setdefault(hit.chunk_id, {})
            for name, score in hit.scores.items():
                kept[name] = max(score, kept.get(name, score))
    order = np.lexsort((fused.ids, -fused.scores))[:top_k]
    return [
        Hit(
            chunk_id=ChunkId(int(fused.ids[place])),
            document_id=documents[int(fused.ids[place])],
            score=float(fused.scores[place]),
            rank=rank,
            scores=scores[int(fused.ids[place])],
            ranks=ranks[int(fused.ids[place])],
            shares={name: float(share[place]) for name, share in fused.shares.items() if share[place]},
        )
        for rank, place in enumerate(order, start=1)
    ]
