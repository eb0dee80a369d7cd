"""Where a chunk stands in each list when everything is ranked: how deep a search would have had to go."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from retrievers.types import Hit, Query


def exhaustive_ranks(snapshot: Snapshot, query: Query, wanted: Iterable[int]) -> dict[str, int]:
    """The best rank among the wanted chunks, from 1: by BM25 and, where the query has a vector, by vectors.

    Vectors are ranked exactly ("dense") and as a search ranks them ("dense_searched"), which leaves out a
    list that lacks all of them. Chunks without a word of the query have no rank by BM25.
    """
    ids = _live_ids(snapshot)
    sought = np.isin(ids, np.fromiter(wanted, dtype=np.int64))
    if not sought.any():
        return {}
    words = snapshot.lexical.score(query.text, ids)
    ranks = {"bm25": best_rank(ids, words, sought)} if words[sought].max() > 0 else {}
    if query.vector is not None:
        ranks["dense"] = best_rank(ids, snapshot.vectors.score(query.vector, ids), sought)
        found = snapshot.vectors.search(query.vector, min(len(ids), 10 * ranks["dense"] + 100))
        places = np.flatnonzero(np.isin(found.chunk_ids, ids[sought]))
        if len(places):
            ranks["dense_searched"] = int(places[0]) + 1
    return ranks


def best_rank(ids: Ids, scores: Floats, sought: NDArray[np.bool_]) -> int:
    """The rank of the best of the sought places, ties by id.

    >>> best_rank(np.array([1, 2, 3]), np.array([0.5, 0.9, 0.5]), np.array([False, False, True]))
    3
    """
    ranking = np.lexsort((ids, -scores))
    return int(np.flatnonzero(sought[ranking])[0]) + 1


def rank_among(hits: Iterable[Hit], wanted: Iterable[int]) -> int | None:
    """The rank of the first wanted chunk among hits."""
    sought = set(wanted)
    return next((hit.rank for hit in hits if hit.chunk_id in sought), None)


def _live_ids(snapshot: Snapshot) -> Ids:
    none = np.empty(0, dtype=np.int64)
    parts = [
        part.chunk_ids if part.live is None else part.chunk_ids[part.live]
        for part in snapshot.segments.segments
    ]
    return np.concatenate([none, *parts])
