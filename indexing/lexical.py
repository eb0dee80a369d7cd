"""BM25 over the postings of a snapshot's segments.

Statistics are those of the live chunks, and sums are taken in double precision in one order of terms. So the
same chunks give the same scores, to the last bit, however the index came about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.analysis import build_analyzer
from indexing.bm25 import coded_lengths, idf, term_weight
from indexing.found import Found, best
from indexing.segments import Rows, Segment, SegmentSet, Selection
from indexing.terms import term_key
from indexing.types import Floats, Ids

Doubles = NDArray[np.float64]

# A segment answers from its best blocks: so many rows are one.
_BLOCK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """The terms of a query that stand in the collection: their keys, rising, and weights."""

    texts: tuple[str, ...]
    keys: NDArray[np.uint64]
    weights: Doubles


class LexicalIndex:
    """BM25 over the live rows of a snapshot. Safe to use from several threads."""

    def __init__(self, segments: SegmentSet) -> None:
        self._segments = segments
        self._analyzer = build_analyzer()
        self._frequencies: dict[int, int] = {}
        n_tokens = sum(segment.n_tokens for segment in segments.segments)
        average_length = n_tokens / segments.n_live if n_tokens else 1.0
        # What a term adds for its weight, by the count in a row and the code of the row's length.
        counts = np.arange(256, dtype=np.float64)[:, None]
        self._saturated = term_weight(counts, coded_lengths(), average_length).ravel()

    def search(self, text: str, limit: int, selection: Selection | None = None) -> Found:
        """The `limit` best chunks that share a term with the text, best first, ties by chunk id.

        Fewer only if fewer share one.
        """
        terms = self._terms(text)
        if not terms.texts or limit < 1:
            return best([], limit)
        parts = []
        for segment, mask, _ in self._segments.selected(selection or self._segments.everything):
            scores = self._all_scores(segment, terms)
            if mask is not None:
                scores *= mask
            rows = _best_rows(scores, limit)
            parts.append(segment.found(rows, scores[rows]))
        return best(parts, limit)

    def score(self, text: str, chunk_ids: Ids) -> Floats:
        """BM25 of every given chunk, 0 for one without a term of the text; KeyError for one not there."""
        terms = self._terms(text)
        scores = np.zeros(len(chunk_ids), dtype=np.float32)
        for segment, positions, rows in self._segments.located(chunk_ids):
            total = np.zeros(len(rows))
            for _, values in self._values(segment, rows, terms):
                total += values
            scores[positions] = total
        return scores

    def contributions(self, text: str, chunk_id: int) -> Mapping[str, float]:
        """What each term adds to the chunk's score; the sum is the score."""
        terms = self._terms(text)
        ((segment, _, rows),) = self._segments.located(np.array([chunk_id], dtype=np.int64))
        values = (
            (terms.texts[number], float(value[0])) for number, value in self._values(segment, rows, terms)
        )
        return {term: value for term, value in values if value}

    def _terms(self, text: str) -> _Terms:
        found = []
        for term, repeats in Counter(self._analyzer.analyze(text)).items():
            key = term_key(term)
            frequency = self._frequency(key)
            if frequency:
                found.append((key, term, idf(self._segments.n_live, frequency) * repeats))
        found.sort()
        return _Terms(
            texts=tuple(term for _, term, _ in found),
            keys=np.array([key for key, _, _ in found], dtype=np.uint64),
            weights=np.array([weight for _, _, weight in found], dtype=np.float64),
        )

    def _frequency(self, key: int) -> int:
        """In how many live rows the term stands."""
        if key not in self._frequencies:
            keys = np.array([key], dtype=np.uint64)
            self._frequencies[key] = sum(
                stop - start
                if segment.live is None
                else int(np.count_nonzero(segment.live[segment.postings.rows[start:stop]]))
                for segment in self._segments.segments
                for _, start, stop in _places(segment, keys)
            )
        return self._frequencies[key]

    def _all_scores(self, segment: Segment, terms: _Terms) -> Floats:
        """The score of every row of the segment."""
        postings = segment.postings
        rows, values = [], []
        for number, start, stop in _places(segment, terms.keys):
            rows.append(postings.rows[start:stop])
            values.append(
                self._weighted(segment, rows[-1], postings.counts[start:stop], terms.weights[number])
            )
        if not rows:
            return np.zeros(len(segment), dtype=np.float32)
        scores = np.bincount(np.concatenate(rows), weights=np.concatenate(values), minlength=len(segment))
        return scores.astype(np.float32)

    def _values(self, segment: Segment, rows: Rows, terms: _Terms) -> Iterator[tuple[int, Doubles]]:
        """For each term that the segment has: its number, and what it adds to the score of each row."""
        postings = segment.postings
        for number, start, stop in _places(segment, terms.keys):
            present = postings.rows[start:stop]
            places = np.searchsorted(present, rows.astype(np.uint32))
            places[places == len(present)] = 0
            counts = np.where(present[places] == rows, postings.counts[start:stop][places], 0)
            yield number, self._weighted(segment, rows, counts, terms.weights[number])

    def _weighted(
        self, segment: Segment, rows: NDArray[np.integer], counts: NDArray[np.uint8], weight: float
    ) -> Doubles:
        pairs = (counts.astype(np.int64) << 8) | segment.postings.lengths[rows]
        return np.asarray(self._saturated[pairs] * weight)


def _places(segment: Segment, keys: NDArray[np.uint64]) -> Iterator[tuple[int, int, int]]:
    """For each of the terms that the segment has: its number, and where its postings begin and end."""
    vocabulary, starts = segment.terms.vocabulary, segment.postings.starts
    if not len(vocabulary):
        return
    places = np.searchsorted(vocabulary, keys)
    places[places == len(vocabulary)] = 0
    for number in np.flatnonzero(vocabulary[places] == keys).tolist():
        place = places[number]
        yield number, int(starts[place]), int(starts[place + 1])


def _best_rows(scores: Floats, limit: int) -> Rows:
    """The `limit` rows with the highest scores above zero, ties to the lower row, in no promised order."""
    n_blocks = len(scores) // _BLOCK
    border = np.float32(0)
    if limit <= n_blocks:
        tops = scores[: n_blocks * _BLOCK].reshape(n_blocks, _BLOCK).max(axis=1)
        # That many blocks have a row with this score or a higher one.
        border = np.partition(tops, n_blocks - limit)[n_blocks - limit]
    rows = np.flatnonzero(scores >= border) if border > 0 else np.flatnonzero(scores)
    if len(rows) <= limit:
        return rows
    kept = scores[rows]
    border = np.partition(kept, len(kept) - limit)[len(kept) - limit]
    above, equal = rows[kept > border], rows[kept == border]
    return np.concatenate([above, equal[: limit - len(above)]])
