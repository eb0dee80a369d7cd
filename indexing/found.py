"""What a search of an index gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from indexing.types import Floats, Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Chunks with their documents and scores, three arrays of one length, best first, ties by chunk id."""

    chunk_ids: Ids
    document_ids: Ids
    scores: Floats

    def __len__(self) -> int:
        return len(self.chunk_ids)

    def head(self, limit: int) -> Found:
        return Found(
            chunk_ids=self.chunk_ids[:limit],
            document_ids=self.document_ids[:limit],
            scores=self.scores[:limit],
        )


def best(parts: Sequence[Found], limit: int) -> Found:
    """The `limit` best of all parts, whose order is of no account."""
    if not parts:
        none = np.empty(0, dtype=np.int64)
        return Found(chunk_ids=none, document_ids=none, scores=np.empty(0, dtype=np.float32))
    chunk_ids = np.concatenate([part.chunk_ids for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    order = np.lexsort((chunk_ids, -scores))[:limit]
    return Found(
        chunk_ids=chunk_ids[order],
        document_ids=np.concatenate([part.document_ids for part in parts])[order],
        scores=scores[order],
    )
