"""An encoder whose sentence vectors are turned by a rotation and then cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from indexing.encoding.base import Encoder, Progress
from indexing.encoding.identity import fingerprint
from indexing.encoding.rotation import Rotation
from indexing.errors import EncoderError
from indexing.types import Encoding, Floats, TokenVectors


class RotatedEncoder:
    """An `Encoder` over another that gives whole vectors.

    Token vectors are turned only where they are cut too: at full width a rotation changes no inner product,
    and the codec of the default model knows the axes as they are.
    """

    def __init__(self, encoder: Encoder, rotation: Rotation, *, dim: int | None = None) -> None:
        """`dim` keeps the first so many numbers. Raises EncoderError if the rotation has fewer columns."""
        n_columns = rotation.matrix.shape[1]
        if dim is not None and not 1 <= dim <= n_columns:
            raise EncoderError(f"dim must be from 1 to {n_columns} for this rotation, not {dim}.")
        self._encoder = encoder
        self._matrix = np.ascontiguousarray(rotation.matrix[:, :dim])
        self._fingerprint = fingerprint(
            {"encoder": encoder.fingerprint, "rotation": rotation.identity, "dim": self.dim}
        )

    @property
    def name(self) -> str:
        return self._encoder.name

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def dim(self) -> int:
        return int(self._matrix.shape[1])

    @property
    def max_tokens(self) -> int:
        return self._encoder.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._encoder.count_tokens(texts)

    def encode_documents(
        self, texts: Sequence[str], *, with_tokens: bool = False, progress: Progress | None = None
    ) -> Encoding:
        return self._turned(self._encoder.encode_documents(texts, with_tokens=with_tokens, progress=progress))

    def encode_queries(self, texts: Sequence[str], *, with_tokens: bool = False) -> Encoding:
        return self._turned(self._encoder.encode_queries(texts, with_tokens=with_tokens))

    def _turned(self, encoding: Encoding) -> Encoding:
        tokens = encoding.tokens
        if tokens is not None and self.dim < self._encoder.dim:
            tokens = tuple(
                TokenVectors(vectors=self._turn(one.vectors), offsets=one.offsets) for one in tokens
            )
        return Encoding(vectors=self._turn(encoding.vectors), tokens=tokens)

    def _turn(self, vectors: Floats) -> Floats:
        """Each row turned, cut, and of length 1 again."""
        turned = vectors @ self._matrix
        lengths = np.linalg.norm(turned, axis=1, keepdims=True)
        return np.asarray(turned / np.where(lengths > 0, lengths, 1), dtype=np.float32)
