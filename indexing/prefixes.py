"""Searches by the first dimensions of the vectors alone: the first step of a funnel.

The prefixes of a segment, each of length 1 again, stand in memory one after another once they are first asked
for: a scan that read them out of the whole vectors would read nearly as much as a scan of these.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakKeyDictionary

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from indexing.found import Found, best
from indexing.segment_set import SegmentSet, Selection
from indexing.segments import SegmentFiles
from indexing.types import Floats, Ids
from indexing.vectors import Halves

faiss: Any = _faiss

_ROWS_A_SLICE = 16_384


class PrefixIndex:
    """The segments of a snapshot, by the first `dim` numbers of their vectors.

    Safe to use from several threads.
    """

    def __init__(self, segments: SegmentSet, dim: int) -> None:
        if not 1 <= dim <= segments.dim:
            raise ValueError(f"A prefix has from 1 to {segments.dim} dimensions, not {dim}.")
        self._segments = segments
        self.dim = dim

    def search(self, vector: Floats, limit: int, selection: Selection) -> Found:
        """The `limit` chunks whose prefix has the highest cosine with that of the query, best first."""
        query = _unit(vector[None, : self.dim])
        parts = []
        for segment, mask, n_allowed in self._segments.selected(selection):
            store, parameters = _STORES.of(segment.files, self.dim), None
            if mask is not None:
                bitmap = np.packbits(mask, bitorder="little")
                parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
            faiss.omp_set_num_threads(1)
            scores, rows = store.search(query, min(limit, n_allowed), params=parameters)
            parts.append(segment.found(rows[0].astype(np.int64), scores[0]))
        return best(parts, limit)

    def score(self, vector: Floats, chunk_ids: Ids) -> Floats:
        """The cosine of every given chunk's prefix with the query's; KeyError for one that is not there."""
        query = _unit(vector[None, : self.dim])[0].astype(np.float64)
        scores = np.zeros(len(chunk_ids), dtype=np.float32)
        for segment, positions, rows in self._segments.located(chunk_ids):
            scores[positions] = _unit(segment.vectors.halves[rows, : self.dim]).astype(np.float64) @ query
        return scores


class _Stores:
    """The prefixes of open segments, by segment and dimension; they go when the segment is let go of."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[SegmentFiles, dict[int, Any]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, files: SegmentFiles, dim: int) -> Any:
        with self._lock:
            stores = self._kept.setdefault(files, {})
            if dim not in stores:
                stores[dim] = _store(files.vectors.halves, dim)
            return stores[dim]


_STORES = _Stores()


def _store(halves: Halves, dim: int) -> Any:
    store = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    for start in range(0, len(halves), _ROWS_A_SLICE):
        store.add(_unit(halves[start : start + _ROWS_A_SLICE, :dim]))
    return store


def _unit(vectors: Floats | NDArray[np.float16]) -> Floats:
    singles = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(singles, axis=1, keepdims=True)
    return np.asarray(singles / np.where(lengths > 0, lengths, 1), dtype=np.float32)
