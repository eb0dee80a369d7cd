"""From arrays to hits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from indexing.types import ChunkId, DocumentId, Floats, Ids
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
