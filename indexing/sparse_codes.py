"""Sparse vectors over a vocabulary: for a query in full, for chunks with weights of eight bits.

A learned sparse model (SPLADE, Formal et al. 2021, https://arxiv.org/abs/2109.10086) gives a text a weight
above zero for some of the terms of a vocabulary, and two texts are as similar as the inner product says. A
chunk keeps each weight as one of 255 levels of its largest: w_j = level_j * scale, which is off by half a
scale at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.spans import spans
from indexing.types import Floats

Terms = NDArray[np.uint32]
Levels = NDArray[np.uint8]
Rows = NDArray[np.int64]

MAX_LEVEL = 255
_MAGIC = b"footspa1"


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """Terms, rising, each with its weight above zero, float32."""

    terms: Terms
    weights: Floats

    def __len__(self) -> int:
        return len(self.terms)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SparseCodes:
    """The coded vectors of several chunks, one after another.

    Chunk r has the entries `starts[r]:starts[r + 1]` of `terms`, which rise there, and `levels`, from 1 to
    255; `scales[r]` times a level is the weight.
    """

    terms: Terms
    levels: Levels
    starts: Rows
    scales: Floats

    def __len__(self) -> int:
        return len(self.scales)

    def __getitem__(self, row: int) -> SparseVector:
        """The vector that the codes stand for."""
        part = slice(self.starts[row], self.starts[row + 1])
        return SparseVector(self.terms[part], self.levels[part] * self.scales[row])

    @classmethod
    def of(cls, vectors: Sequence[SparseVector]) -> SparseCodes:
        """Vectors coded; a weight that is less than half a level of the largest is left out.

        >>> one = SparseVector(np.array([3, 9], np.uint32), np.array([0.5, 2], np.float32))
        >>> codes = SparseCodes.of([one])
        >>> codes.levels.tolist(), [round(weight, 3) for weight in codes[0].weights.tolist()]
        ([64, 255], [0.502, 2.0])
        """
        terms, levels, scales = [], [], []
        for vector in vectors:
            scale = float(vector.weights.max(initial=0.0)) / MAX_LEVEL
            coded = np.rint(vector.weights / (scale or 1.0)).astype(np.uint8)
            terms.append(vector.terms[coded > 0])
            levels.append(coded[coded > 0])
            scales.append(scale)
        return cls.joined(terms, levels, scales)

    @classmethod
    def joined(cls, terms: Sequence[Terms], levels: Sequence[Levels], scales: Sequence[float]) -> SparseCodes:
        sizes = np.array([len(part) for part in terms], dtype=np.int64)
        return cls(
            terms=np.concatenate([np.empty(0, dtype=np.uint32), *terms]),
            levels=np.concatenate([np.empty(0, dtype=np.uint8), *levels]),
            starts=starts_of(sizes),
            scales=np.array(scales, dtype=np.float32),
        )

    @classmethod
    def chained(cls, parts: Sequence[SparseCodes]) -> SparseCodes:
        """All chunks of the parts, in their order."""
        return cls(
            terms=np.concatenate([np.empty(0, dtype=np.uint32), *(part.terms for part in parts)]),
            levels=np.concatenate([np.empty(0, dtype=np.uint8), *(part.levels for part in parts)]),
            starts=starts_of(np.concatenate([np.empty(0, np.int64), *(np.diff(p.starts) for p in parts)])),
            scales=np.concatenate([np.empty(0, dtype=np.float32), *(part.scales for part in parts)]),
        )

    def take(self, rows: Rows) -> SparseCodes:
        """A copy of some chunks."""
        sizes = np.diff(self.starts)[rows]
        places = spans(self.starts[rows], sizes)
        return SparseCodes(
            terms=self.terms[places],
            levels=self.levels[places],
            starts=starts_of(sizes),
            scales=self.scales[rows],
        )

    def to_bytes(self, row: int) -> bytes:
        """One chunk as it is kept: a magic word, the scale, the terms, the levels."""
        part = slice(self.starts[row], self.starts[row + 1])
        terms, scale = self.terms[part].astype("<u4"), self.scales[row : row + 1].astype("<f4")
        return _MAGIC + scale.tobytes() + terms.tobytes() + self.levels[part].tobytes()

    @classmethod
    def from_bytes(cls, kept: Sequence[bytes]) -> SparseCodes:
        """Chunks from what `to_bytes` gave. Raises ValueError for other bytes."""
        terms, levels, scales = [], [], []
        for data in kept:
            n_entries, rest = divmod(len(data) - len(_MAGIC) - 4, 5)
            if not data.startswith(_MAGIC) or n_entries < 0 or rest:
                raise ValueError(f"{len(data)} bytes are not a sparse vector")
            scales.append(float(np.frombuffer(data, "<f4", 1, offset=len(_MAGIC))[0]))
            terms.append(np.frombuffer(data, "<u4", n_entries, offset=len(_MAGIC) + 4))
            levels.append(np.frombuffer(data, np.uint8, offset=len(_MAGIC) + 4 + 4 * n_entries))
        return cls.joined(terms, levels, scales)


def starts_of(sizes: NDArray[np.integer]) -> Rows:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
