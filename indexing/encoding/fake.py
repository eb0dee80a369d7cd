"""An encoder one can follow by hand: every word is a fixed direction, a text is the sum of its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from indexing.encoding.base import Progress
from indexing.encoding.identity import fingerprint
from indexing.types import Encoding, Floats, TokenVectors

_WORD = re.compile(r"\w+")


class WordEncoder:
    """An `Encoder` without a model, for tests and for trying the rest of the service without one.

    A token is a word, lower-cased. Its vector has random signs drawn from the word's hash, so that different
    words are nearly at right angles; a text's vector is the mean of its words', of length 1. The more words
    two texts share, the higher their cosine. A text without words is the constant vector. The first
    `max_tokens - 2` words count, as if there were two special tokens.

    >>> encoder = WordEncoder()
    >>> a, b, c = encoder.encode_documents(["red apple", "green apple", "blue sky"]).vectors
    >>> float(a @ b) > float(a @ c) + 0.2
    True
    """

    def __init__(self, *, dim: int = 64, max_tokens: int = 256) -> None:
        self._dim = dim
        self._max_tokens = max_tokens

    @property
    def name(self) -> str:
        return "words"

    @property
    def fingerprint(self) -> str:
        return fingerprint({"model": self.name, "dim": self._dim, "max_tokens": self._max_tokens})

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(_WORD.findall(text)) for text in texts]

    def encode_documents(
        self, texts: Sequence[str], *, with_tokens: bool = False, progress: Progress | None = None
    ) -> Encoding:
        vectors = np.empty((len(texts), self._dim), np.float32)
        tokens: list[TokenVectors] = []
        for row, text in enumerate(texts):
            words = self._token_vectors(text)
            vectors[row] = self._sum(words.vectors)
            tokens.append(words)
            if progress is not None:
                progress(row + 1, len(texts))
        return Encoding(vectors=vectors, tokens=tuple(tokens) if with_tokens else None)

    def encode_queries(self, texts: Sequence[str], *, with_tokens: bool = False) -> Encoding:
        return self.encode_documents(texts, with_tokens=with_tokens)

    def _token_vectors(self, text: str) -> TokenVectors:
        matches = list(_WORD.finditer(text))[: self._max_tokens - 2]
        vectors = [word_vector(match.group().lower(), self._dim) for match in matches]
        return TokenVectors(
            vectors=np.array(vectors, np.float32).reshape(-1, self._dim),
            offsets=np.array([match.span() for match in matches], np.int32).reshape(-1, 2),
        )

    def _sum(self, vectors: Floats) -> Floats:
        total = vectors.sum(axis=0)
        length = float(np.linalg.norm(total))
        if length == 0:  # no words, or words that cancel
            return np.full(self._dim, self._dim**-0.5, np.float32)
        return np.asarray(total / length, np.float32)


def word_vector(word: str, dim: int) -> Floats:
    """The word's direction, float32 `(dim,)` of length 1: each number is `±dim**-0.5`.

    >>> float(np.linalg.norm(word_vector("apple", 64)).round(6))
    1.0
    """
    n_bytes = -(-dim // 8)
    digest = b"".join(
        blake2b(word.encode("utf-8", "surrogatepass"), salt=block.to_bytes(8, "big")).digest()
        for block in range(-(-n_bytes // 64))
    )
    bits = np.unpackbits(np.frombuffer(digest[:n_bytes], np.uint8))[:dim]
    signs = bits.astype(np.float32) * 2 - 1
    return np.asarray(signs * dim**-0.5, np.float32)
