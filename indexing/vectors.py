"""Vectors of one segment on disk.

The fp16 matrix is the store: a FAISS scalar-quantizer file, mapped and never read whole, in which FAISS
searches and from which scores are computed. Larger segments add one-bit codes (RaBitQ, Gao and Long 2024,
https://arxiv.org/abs/2405.12497) that choose the rows worth looking at there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from indexing.errors import IndexDamaged
from indexing.types import Floats

# The stubs that come with FAISS leave out what its Python layer adds.
faiss: Any = _faiss

Halves = NDArray[np.float16]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

# Below this an exact scan costs under 4 ms and gives the same answer whatever the segments' history.
RABITQ_MIN_ROWS = 50_000
RABITQ_TRAINING_ROWS = 65_536
# With one row allowed in so many, collecting the allowed rows beats a scan that leaves out the others.
SPARSE = 32

STORE = "vectors.faiss"
CODES = "codes.faiss"
_ROWS_A_SLICE = 32_768


class VectorStore:
    """The vectors of one segment. Safe to search from several threads.

    Raises IndexDamaged if the files hold another number of vectors, or other vectors, than they should.
    """

    def __init__(self, directory: Path, n_rows: int, dim: int, *, coded: bool) -> None:
        self._codes_path = directory / CODES
        self.coded = coded
        self._store = _read(directory / STORE, n_rows, dim)
        n_bytes = n_rows * dim * 2
        if self._store.codes.size() != n_bytes:
            raise IndexDamaged(f"{directory / STORE} holds another matrix than {n_rows} x {dim}.")
        codes_view = faiss.rev_swig_ptr(self._store.codes.data(), n_bytes)
        self.halves: Halves = codes_view.view(np.float16).reshape(n_rows, dim)
        self.halves.flags.writeable = False

    def __len__(self) -> int:
        return len(self.halves)

    @cached_property
    def _codes(self) -> Any:
        # FAISS reads them whole: 56 bytes a row, which only a search needs.
        return _read(self._codes_path, *self.halves.shape)

    def estimate(self, vector: Floats, depth: int) -> tuple[Floats, Rows]:
        """Estimated inner products of the `depth` rows where they seem highest, and the rows; in no order."""
        _use_one_thread()
        scores, rows = self._codes.search(vector[None], min(depth, len(self)))
        found = rows[0] >= 0
        return scores[0][found], rows[0][found]

    def nearest(self, vector: Floats, depth: int, mask: Mask | None, n_allowed: int) -> Rows:
        """The `depth` best rows among those the mask allows (all, if there are fewer), in no order. Exact."""
        depth = min(depth, n_allowed)
        if depth == 0:
            return np.empty(0, dtype=np.int64)
        parameters = None
        if mask is not None:
            if n_allowed * SPARSE < len(self):
                allowed = np.flatnonzero(mask)
                return allowed[nearest_among(vector, self.halves[allowed], depth)]
            bitmap = np.packbits(mask, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        _use_one_thread()
        return np.asarray(self._store.search(vector[None], depth, params=parameters)[1][0], dtype=np.int64)

    def score(self, vector: Floats, rows: Rows) -> Floats:
        """Inner products with the stored fp16 vectors, the same for a row whatever rows are beside it."""
        # Summed in float64: the order in which a matrix product adds depends on its shape.
        products = self.halves[rows].astype(np.float64) @ vector.astype(np.float64)
        return np.asarray(products, dtype=np.float32)


def nearest_among(vector: Floats, halves: Halves, depth: int) -> Rows:
    """The places of the `depth` best rows of a matrix, in no order. FAISS converts fp16 faster than numpy."""
    if len(halves) <= depth:
        return np.arange(len(halves))
    store = _empty_store(halves.shape[1])
    store.add_sa_codes(np.ascontiguousarray(halves).view(np.uint8))
    _use_one_thread()
    return np.asarray(store.search(vector[None], depth)[1][0], dtype=np.int64)


def write_vectors(
    directory: Path, parts: Iterable[Halves], n_rows: int, dim: int, pause: Callable[[], None]
) -> bool:
    """Writes the store, and the codes if there are enough rows for them; whether codes were written.

    The rows come in parts, so that a matrix larger than memory can be written; `pause` is called now and then
    while codes are made.
    """
    header = bytearray(faiss.serialize_index(_empty_store(dim)).tobytes())
    # An empty store ends with the size of its codes; the number of vectors follows the magic word and `d`.
    header[8:16] = n_rows.to_bytes(8, "little")
    header[-8:] = (n_rows * dim * 2).to_bytes(8, "little")
    with (directory / STORE).open("wb") as file:
        file.write(header)
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype=np.float16).data)
    if n_rows < RABITQ_MIN_ROWS:
        return False
    halves = np.memmap(directory / STORE, np.float16, "r", len(header), (n_rows, dim))
    _write_codes(directory, halves, pause)
    return True


def _write_codes(directory: Path, halves: Halves, pause: Callable[[], None]) -> None:
    n_rows, dim = halves.shape
    codes = faiss.index_factory(dim, "RaBitQfs", faiss.METRIC_INNER_PRODUCT)
    step = -(-n_rows // RABITQ_TRAINING_ROWS)
    codes.train(halves[::step].astype(np.float32))
    for start in range(0, n_rows, _ROWS_A_SLICE):
        pause()
        codes.add(halves[start : start + _ROWS_A_SLICE].astype(np.float32))
    faiss.write_index(codes, str(directory / CODES))


def _read(path: Path, n_rows: int, dim: int) -> Any:
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as exc:
        raise IndexDamaged(f"{path} cannot be read: {exc}") from exc
    if (index.ntotal, index.d) != (n_rows, dim):
        raise IndexDamaged(f"{path} holds {index.ntotal} x {index.d} instead of {n_rows} x {dim}.")
    return index


def _empty_store(dim: int) -> Any:
    return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def _use_one_thread() -> None:
    # One query is too little work to share: a second OpenMP thread costs more than it brings, and spins.
    # The setting belongs to the calling thread.
    faiss.omp_set_num_threads(1)
