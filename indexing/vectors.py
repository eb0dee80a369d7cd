"""Vectors of one segment on disk, and nearest neighbours over all segments.

The fp16 matrix is the store: a FAISS scalar-quantizer file, mapped and never read whole, in which FAISS
searches and from which scores are computed. Larger segments add one-bit codes (RaBitQ, Gao and Long 2024,
https://arxiv.org/abs/2405.12497) that choose the rows worth looking at there.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from indexing.found import Found, best
from indexing.types import Floats, Ids

if TYPE_CHECKING:
    from indexing.segments import SegmentSet, Selection

# The stubs that come with FAISS leave out what its Python layer adds.
faiss: Any = _faiss

Halves = NDArray[np.float16]
Mask = NDArray[np.bool_]

# Below this an exact scan costs under 2 ms and gives the same answer whatever the segments' history.
RABITQ_MIN_ROWS = 50_000
RABITQ_TRAINING_ROWS = 65_536
# Rows looked at in the fp16 store per row wanted: recall@100 .995 at 20 (benchmarks/search.py).
REFINE_FACTOR = 20
# Looking at a row out of order costs as much as scanning this many in order.
RANDOM_COST = 3
# Every search asks for at least this many, so that a shorter result is a prefix of a longer one.
MIN_DEPTH = 128
# Fetched beyond the limit, so that most ties at the border are seen whole at once.
TIE_MARGIN = 8
# Sums of 1536 products differ by less than this between the engine's arithmetic and ours.
TIE_TOLERANCE = 1e-5

_STORE = "vectors.faiss"
_CODES = "codes.faiss"


class VectorStore:
    """The vectors of one segment. Safe to search from several threads."""

    def __init__(self, directory: Path) -> None:
        self._store = faiss.read_index(str(directory / _STORE), faiss.IO_FLAG_MMAP_IFC)
        self._refined: Any = None
        if (directory / _CODES).exists():
            codes = faiss.read_index(str(directory / _CODES), faiss.IO_FLAG_MMAP_IFC)
            self._refined = faiss.IndexRefine(codes, self._store)
        n_bytes = self._store.ntotal * self._store.d * 2
        codes_view = faiss.rev_swig_ptr(self._store.codes.data(), n_bytes)
        self.halves: Halves = codes_view.view(np.float16).reshape(self._store.ntotal, self._store.d)
        self.halves.flags.writeable = False

    def __len__(self) -> int:
        return int(self._store.ntotal)

    @property
    def dim(self) -> int:
        return int(self._store.d)

    def nearest(self, vector: Floats, depth: int, mask: Mask | None, n_allowed: int) -> NDArray[np.int64]:
        """The `depth` best rows among those the mask allows (all, if there are fewer), in no order.

        Exact, but for segments with codes, where recall is that of the one-bit scan.
        """
        depth = min(depth, n_allowed)
        if depth == 0:
            return np.empty(0, dtype=np.int64)
        # One query is too little work to share: a second OpenMP thread costs more than it brings, and
        # spins. The setting belongs to the calling thread.
        faiss.omp_set_num_threads(1)
        query = np.ascontiguousarray(vector, dtype=np.float32)[None]
        widened = ceil(depth * len(self) / n_allowed * 1.2) if n_allowed < len(self) else depth
        if self._refined is not None and widened * REFINE_FACTOR * RANDOM_COST < n_allowed:
            parameters = faiss.IndexRefineSearchParameters(k_factor=REFINE_FACTOR)
            rows = self._refined.search(query, widened, params=parameters)[1][0]
            rows = rows[rows >= 0]
            rows = rows if mask is None else rows[mask[rows]]
            if len(rows) >= depth:
                return np.asarray(rows, dtype=np.int64)
        parameters = None
        if mask is not None:
            bitmap = np.packbits(mask, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        return np.asarray(self._store.search(query, depth, params=parameters)[1][0], dtype=np.int64)

    def score(self, vector: Floats, rows: NDArray[np.int64]) -> Floats:
        """Inner products with the stored fp16 vectors, the same for a row whatever rows are beside it."""
        # Summed in float64: the order in which a matrix product adds depends on its shape.
        products = self.halves[rows].astype(np.float64) @ vector.astype(np.float64)
        return np.asarray(products, dtype=np.float32)


def write_vectors(directory: Path, halves: Halves) -> bool:
    """Writes the store, and the codes if there are enough rows for them; whether codes were written."""
    n_rows, dim = halves.shape
    store = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    store.add_sa_codes(np.ascontiguousarray(halves).view(np.uint8))
    faiss.write_index(store, str(directory / _STORE))
    if n_rows < RABITQ_MIN_ROWS:
        return False
    codes = faiss.index_factory(dim, "RaBitQfs", faiss.METRIC_INNER_PRODUCT)
    step = -(-n_rows // RABITQ_TRAINING_ROWS)
    codes.train(halves[::step].astype(np.float32))
    for start in range(0, n_rows, RABITQ_TRAINING_ROWS):
        codes.add(halves[start : start + RABITQ_TRAINING_ROWS].astype(np.float32))
    faiss.write_index(codes, str(directory / _CODES))
    return True


class VectorIndex:
    """Inner products over all live rows of a snapshot."""

    def __init__(self, segments: SegmentSet) -> None:
        self._segments = segments

    def search(self, vector: Floats, limit: int, selection: Selection | None = None) -> Found:
        """The `limit` best chunks, best first, ties by chunk id; fewer only if there are fewer.

        `vector` has shape (dim,). Raises ValueError for another shape.
        """
        self._check(vector)
        selection = selection or self._segments.everything
        depth = max(limit, MIN_DEPTH) + TIE_MARGIN
        while True:
            found = self._nearest(vector, depth, selection)
            seen_all = len(found) <= limit or depth >= selection.n_rows
            # what was not fetched is no better than the last that was
            if seen_all or found.scores[-1] < found.scores[limit - 1] - TIE_TOLERANCE:
                return found.head(limit)
            depth *= 4

    def score(self, vector: Floats, chunk_ids: Ids) -> Floats:
        """The inner product of every given chunk; raises KeyError for a chunk that is not there."""
        self._check(vector)
        scores = np.zeros(len(chunk_ids), dtype=np.float32)
        for segment, positions, rows in self._segments.located(chunk_ids):
            scores[positions] = segment.vectors.score(vector, rows)
        return scores

    def _nearest(self, vector: Floats, depth: int, selection: Selection) -> Found:
        parts = []
        for segment, mask, n_allowed in self._segments.selected(selection):
            rows = segment.vectors.nearest(vector, depth, mask, n_allowed)
            parts.append(segment.found(rows, segment.vectors.score(vector, rows)))
        return best(parts, depth)

    def _check(self, vector: Floats) -> None:
        dim = self._segments.dim
        if vector.shape != (dim,):
            raise ValueError(f"The query vector has shape {vector.shape}, the index needs ({dim},).")
