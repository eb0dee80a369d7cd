"""Expansion without a model: what the nearest neighbours of a chunk speak of.

Efron, Organisciak, Fenlon 2012, "Improving retrieval of short texts through document expansion",
https://doi.org/10.1145/2348283.2348405: a text is its own query, and the terms of what it finds are added to
it. Neighbours are found by vector here, where the paper takes a language model of words.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from indexing.analysis import build_analyzer
from indexing.snapshot import Snapshot
from indexing.types import ChunkId, Floats, Ids

Texts = Callable[[Sequence[ChunkId]], Sequence[str]]

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourTerms:
    """So many terms from so many neighbours; measured in docs/manual/35-expansion.md."""

    n_neighbours: int = 10
    n_terms: int = 20

    @property
    def name(self) -> str:
        return f"neighbours-{self.n_neighbours}-{self.n_terms}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """Words to find a chunk by, the weightiest first; the chunks that they come from, the nearest first."""

    chunk_id: ChunkId
    words: tuple[str, ...]
    neighbours: tuple[ChunkId, ...]


class NeighbourExpander:
    """Expands chunks of one snapshot. Not to be used from several threads at once.

    A term w weighs Σ_j max(0, cos(d, d_j)) · tf(w, d_j) / |d_j| · idf(w) over the neighbours d_j of the chunk
    d, which is not among them. Terms of the chunk itself count too: that others share them says that they
    are what it is about. The words are those in which a term came most often.
    """

    def __init__(self, snapshot: Snapshot, texts: Texts, terms: NeighbourTerms | None = None) -> None:
        self._snapshot = snapshot
        self._texts = texts
        self._terms = terms or NeighbourTerms()
        self._analyzer = build_analyzer()
        self._term_of: dict[str, str] = {}
        self._idf: dict[str, float] = {}
        self._words: dict[ChunkId, list[tuple[str, str, int]]] = {}  # term, word, count

    @property
    def name(self) -> str:
        return self._terms.name

    def expand(self, chunk_ids: Ids) -> list[Expansion]:
        """One expansion for each chunk; no words where it has no neighbour, or these no words.

        Raises KeyError for a chunk that is not in the snapshot.
        """
        near = [
            self._neighbours(ChunkId(int(chunk_id)), vector)
            for chunk_id, vector in zip(chunk_ids, self._snapshot.vectors.stored(chunk_ids), strict=True)
        ]
        self._read({key for cosines in near for key in cosines})
        return [
            Expansion(
                chunk_id=ChunkId(int(chunk_id)),
                words=self._best_words(cosines),
                neighbours=tuple(cosines),
            )
            for chunk_id, cosines in zip(chunk_ids, near, strict=True)
        ]

    def _neighbours(self, chunk_id: ChunkId, vector: Floats) -> dict[ChunkId, float]:
        found = self._snapshot.vectors.search(vector, self._terms.n_neighbours + 1)
        cosines = {
            ChunkId(int(key)): float(score) for key, score in zip(found.chunk_ids, found.scores, strict=True)
        }
        cosines.pop(chunk_id, None)
        return dict(list(cosines.items())[: self._terms.n_neighbours])

    def _read(self, chunk_ids: set[ChunkId]) -> None:
        """Has the words of these chunks at hand, and no others."""
        new = sorted(chunk_ids - self._words.keys())
        self._words = {key: words for key, words in self._words.items() if key in chunk_ids}
        for key, text in zip(new, self._texts(new), strict=True):
            counted = Counter(_WORD.findall(text.lower()))
            self._words[key] = [(term, word, n) for word, n in counted.items() if (term := self._term(word))]

    def _best_words(self, cosines: Mapping[ChunkId, float]) -> tuple[str, ...]:
        weights: dict[str, float] = defaultdict(float)
        forms: dict[str, Counter[str]] = defaultdict(Counter)
        for key, cosine in cosines.items():
            words = self._words[key]
            share = max(0.0, cosine) / max(sum(n for _, _, n in words), 1)
            for term, word, n in words:
                weights[term] += share * n
                forms[term][word] += n
        weighed = {term: weight * self._rarity(term, forms[term]) for term, weight in weights.items()}
        best = sorted(weighed, key=lambda term: (-weighed[term], term))[: self._terms.n_terms]
        return tuple(min(forms[term], key=lambda word: (-forms[term][word], word)) for term in best)

    def _term(self, word: str) -> str:
        """The term of a word; "" for one without, as a stop word, or with several."""
        if word not in self._term_of:
            terms = self._analyzer.analyze(word)
            self._term_of[word] = terms[0] if len(terms) == 1 else ""
        return self._term_of[word]

    def _rarity(self, term: str, forms: Counter[str]) -> float:
        if term not in self._idf:
            (self._idf[term],) = self._snapshot.lexical.rarity([next(iter(forms))])
        return self._idf[term]
