"""The encoder protocol: texts in, vectors of length 1 out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from indexing.types import Encoding

Progress = Callable[[int, int], None]
"""Called with (done, total) as long work advances."""


class Encoder(Protocol):
    """Turns texts into vectors. Implementations are safe to call from several threads."""

    @property
    def name(self) -> str:
        """The model's name or path, as set."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that changes a vector: weights, precision, prompts,
        dimension, layers, pooling, normalisation and the token window."""

    @property
    def dim(self) -> int: ...

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens, special tokens included; what is beyond it is cut."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without special tokens, not cut at the window."""

    def encode_documents(
        self, texts: Sequence[str], *, with_tokens: bool = False, progress: Progress | None = None
    ) -> Encoding: ...

    def encode_queries(self, texts: Sequence[str], *, with_tokens: bool = False) -> Encoding: ...
