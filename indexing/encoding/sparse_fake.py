"""A sparse encoder one can follow by hand: the terms of a text are its words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from indexing.encoding.base import Progress
from indexing.encoding.identity import fingerprint
from indexing.sparse_codes import SparseVector

_WORD = re.compile(r"\w+")
N_TERMS = 2**16


class WordSparseEncoder:
    """A `SparseEncoder` without a model, for tests: a word has a hash as number, its count as weight.

    >>> encoder = WordSparseEncoder()
    >>> (vector,) = encoder.encode_documents(["red apple, red sky"])
    >>> {encoder.term(int(t)): float(w) for t, w in zip(vector.terms, vector.weights, strict=True)} == {
    ...     "red": 2.0, "apple": 1.0, "sky": 1.0
    ... }
    True
    """

    name = "words"
    n_terms = N_TERMS

    def __init__(self) -> None:
        self._words: dict[int, str] = {}

    @property
    def fingerprint(self) -> str:
        return fingerprint({"model": self.name, "kind": "sparse"})

    def encode_documents(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> list[SparseVector]:
        vectors = [self.encode_query(text) for text in texts]
        if progress is not None:
            progress(len(vectors), len(texts))
        return vectors

    def encode_query(self, text: str) -> SparseVector:
        counts = Counter(map(self._number, _WORD.findall(text.lower())))
        terms = sorted(counts)
        weights = np.array([counts[term] for term in terms], dtype=np.float32)
        return SparseVector(np.array(terms, dtype=np.uint32), weights)

    def term(self, number: int) -> str:
        return self._words[number]

    def _number(self, word: str) -> int:
        number = crc32(word.encode("utf-8", "surrogatepass")) % N_TERMS
        self._words[number] = word
        return number
