"""BM25 over the postings of a snapshot's segments.

Statistics are those of the live chunks, and sums are taken in double precision in one order of terms. So the
same chunks give the same scores, to the last bit, however the index came about.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.analysis import build_analyzer
from indexing.bm25 import coded_lengths, idf, term_weight
from indexing.errors import IndexDamaged
from indexing.found import Found, best
from indexing.postings import Postings
from indexing.segment_set import SegmentSet, Selection
from indexing.segments import Segment
from indexing.terms import term_key
from indexing.types import Floats, Ids
from indexing.vectors import Mask, Rows

Doubles = NDArray[np.float64]

# Postings scored at once: what comes about beside them stays in the cache.
_SLICE = 16_384
# Finding one row among a term's postings costs as much as scoring so many postings one after another.
_LOOKUP_COST = 8
# Beside the postings, scoring a segment costs as much for so many of its rows as for one posting.
_ROWS_A_POSTING = 4
# The highest scores are looked for first among the highest of so many parts of a segment.
_STRIDES = 64
_KEPT_BUFFERS = 4
# By how much scores may differ between single and double precision, and more.
_ROUNDING = 1e-6


WeightedTerms = Mapping[int, float]
"""A query of terms by their keys (`indexing.terms.term_key`), each with a weight above 0: 1 for each time it
stands in a text that is searched with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkTerms:
    """The distinct terms of a chunk by their keys, how often each stands there, and how many stand there."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.uint8]
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """Where the postings of a term begin and end in a segment; `number` is the term's in the query."""

    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """The terms of a query by their keys, rising; their weights, and their postings in each segment.

    `texts` are "" where the query gave keys alone.
    """

    keys: tuple[int, ...]
    texts: tuple[str, ...]
    weights: tuple[float, ...]
    spans: Mapping[Segment, list[_Span]]


class LexicalIndex:
    """BM25 over the live rows of a snapshot. Safe to use from several threads."""

    def __init__(self, segments: SegmentSet) -> None:
        self._segments = segments
        self._analyzer = build_analyzer()
        self._live_frequencies: dict[tuple[str, int], int] = {}
        self._buffers: deque[Doubles] = deque(maxlen=_KEPT_BUFFERS)
        self._largest = max(map(len, segments.segments), default=0)
        n_tokens = sum(segment.n_tokens for segment in segments.segments)
        average_length = n_tokens / segments.n_live if n_tokens else 1.0
        # What a term adds for its weight, by the count in a row and the code of the row's length.
        counts = np.arange(256, dtype=np.float64)[:, None]
        self._impacts = term_weight(counts, coded_lengths(), average_length).ravel()
        self._highest_impact = float(self._impacts.max())

    def search(self, query: str | WeightedTerms, limit: int, selection: Selection | None = None) -> Found:
        """The `limit` best chunks that share a term with the query, best first, ties by chunk id.

        Fewer only if fewer share one. Raises IndexDamaged for postings that point to no row.
        """
        terms = self._terms(query)
        found = best([], limit)
        if limit < 1:
            return found
        selected = self._segments.selected(selection or self._segments.everything)
        # The largest segment first: what it gives spares looking at the most of the others.
        for segment, mask, size in sorted(selected, key=lambda part: -part[2]):
            if not terms.spans[segment]:
                continue
            least = float(found.scores[-1]) if len(found) == limit else 0.0
            rows, scores = self._best_of(segment, mask, size, terms, limit, least)
            found = best([found, segment.found(rows, scores)], limit)
        return found

    def score(self, query: str | WeightedTerms, chunk_ids: Ids) -> Floats:
        """BM25 of every given chunk, 0 for one without a term of the query; KeyError for one not there."""
        terms = self._terms(query)
        scores = np.zeros(len(chunk_ids), dtype=np.float32)
        for segment, positions, rows in self._segments.located(chunk_ids):
            scores[positions] = self._scores_of(segment, rows, terms)
        return scores

    def rarity(self, words: Sequence[str]) -> list[float]:
        """The inverse document frequency of each word, the highest of its terms'; 0 for one without any."""
        return [max(terms.weights, default=0.0) for terms in map(self._terms, words)]

    def contributions(
        self, query: str | WeightedTerms, chunk_id: int, text: str | None = None
    ) -> Mapping[str, float]:
        """What each term adds to the chunk's score; the sum is the score.

        The terms of a query of keys take their names from `text`, the chunk's.
        """
        terms = self._terms(query)
        names = dict(enumerate(terms.texts))
        if text is not None:
            by_key = {term_key(term): term for term in self._analyzer.analyze(text)}
            names = {number: by_key.get(key, "") for number, key in enumerate(terms.keys)}
        ((segment, _, rows),) = self._segments.located(np.array([chunk_id], dtype=np.int64))
        values = {names[number]: value[0] for number, value in self._values(segment, rows, terms) if value[0]}
        return {term: float(value) for term, value in values.items()}

    def presence(self, terms: Sequence[str]) -> list[tuple[Segment, NDArray[np.uint64]]]:
        """For each segment and row, which of up to 64 terms stand there: bit n is term n; 0 for a dead row.

        Raises ValueError for more terms, IndexDamaged for postings that point to no row.
        """
        if len(terms) > 64:
            raise ValueError(f"{len(terms)} terms are more than the 64 bits of a row.")
        keyed = sorted((term_key(term), number) for number, term in enumerate(terms))
        keys = np.array([key for key, _ in keyed], dtype=np.uint64)
        found = []
        for segment in self._segments.segments:
            bits = np.zeros(len(segment), dtype=np.uint64)
            with _pointing_to_rows():
                for span in _spans(segment, keys):
                    rows = segment.postings.rows[span.start : span.stop]
                    bits[rows] |= np.uint64(1) << np.uint64(keyed[span.number][1])
            if segment.live is not None:
                bits[~segment.live] = 0
            found.append((segment, bits))
        return found

    def terms_of(self, text: str) -> list[str]:
        """The terms of a text, in order, as often as they stand there."""
        return list(self._analyzer.analyze(text))

    def weighted_terms(self, text: str) -> dict[int, float]:
        """The keys of the terms of a text, each with how often it stands there."""
        return {term_key(term): float(n) for term, n in Counter(self._analyzer.analyze(text)).items()}

    def terms_in(self, chunk_ids: Ids) -> list[ChunkTerms]:
        """The terms of every given chunk; raises KeyError for a chunk that is not there."""
        found: dict[int, ChunkTerms] = {}
        for segment, positions, rows in self._segments.located(chunk_ids):
            table = segment.terms
            for position, row in zip(positions.tolist(), rows.tolist(), strict=True):
                entries = slice(table.starts[row], table.starts[row + 1])
                found[position] = ChunkTerms(
                    keys=table.vocabulary[table.ordinals[entries]],
                    counts=table.counts[entries],
                    length=int(table.lengths[row]),
                )
        return [found[position] for position in range(len(chunk_ids))]

    def _terms(self, query: str | WeightedTerms) -> _Terms:
        if isinstance(query, str):
            repeats: Mapping[str, float] = Counter(self._analyzer.analyze(query))
            counted = sorted((term_key(term), term, weight) for term, weight in repeats.items())
        else:
            counted = sorted((key, "", weight) for key, weight in query.items())
        keys = np.array([key for key, _, _ in counted], dtype=np.uint64)
        spans = {segment: list(_spans(segment, keys)) for segment in self._segments.segments}
        frequencies = [0] * len(counted)
        for segment, found in spans.items():
            for span in found:
                frequencies[span.number] += self._frequency(segment, span)
        return _Terms(
            keys=tuple(key for key, _, _ in counted),
            texts=tuple(term for _, term, _ in counted),
            weights=tuple(
                idf(self._segments.n_live, frequency) * weight
                for (_, _, weight), frequency in zip(counted, frequencies, strict=True)
            ),
            spans=spans,
        )

    def _frequency(self, segment: Segment, span: _Span) -> int:
        """In how many live rows of the segment the term stands."""
        if segment.live is None:
            return len(span)
        place = (segment.name, span.start)
        if place not in self._live_frequencies:
            rows = segment.postings.rows[span.start : span.stop]
            with _pointing_to_rows():
                self._live_frequencies[place] = int(np.count_nonzero(segment.live[rows]))
        return self._live_frequencies[place]

    def _best_of(
        self, segment: Segment, mask: Mask | None, size: int, terms: _Terms, limit: int, least: float
    ) -> tuple[Rows, Floats]:
        """The `limit` best of the rows that the mask allows, or those of them with the least score."""
        spans = terms.spans[segment]
        needed = self._needed(spans, terms, least)
        n_needed = sum(map(len, needed))
        scan_cost = sum(map(len, spans)) + len(segment) / _ROWS_A_POSTING
        if min(size, n_needed) * len(spans) * _LOOKUP_COST < scan_cost:
            if mask is not None and size < n_needed:
                candidates = np.flatnonzero(mask)
            else:
                candidates = _rows_of(segment, needed, mask)
            rows, scores = _highest(self._scores_of(segment, candidates, terms), limit, least)
            return candidates[rows], scores
        with self._scores(segment, terms) as scores_of_all:
            if mask is not None:
                scores_of_all *= mask
            return _highest(scores_of_all, limit, least)

    def _needed(self, spans: list[_Span], terms: _Terms, least: float) -> list[_Span]:
        """The terms of which a row must have one to come to the least score (MaxScore's essential lists)."""
        by_weight = sorted(spans, key=lambda span: terms.weights[span.number])
        bound = 0.0
        for n_lighter, span in enumerate(by_weight):
            bound += self._highest_impact * terms.weights[span.number]
            if bound >= least * (1 - _ROUNDING):
                return by_weight[n_lighter:]
        return []

    @contextmanager
    def _scores(self, segment: Segment, terms: _Terms) -> Iterator[Doubles]:
        """The score of every row of the segment, in memory that another search uses again."""
        try:
            # Fresh memory of this size costs more than all else here: the system clears it page by page.
            buffer = self._buffers.pop()
        except IndexError:
            buffer = np.empty(self._largest)
        scores = buffer[: len(segment)]
        scores.fill(0)
        with _pointing_to_rows():
            self._add_up(segment.postings, terms, terms.spans[segment], scores)
        yield scores
        self._buffers.append(buffer)

    def _add_up(self, postings: Postings, terms: _Terms, spans: list[_Span], scores: Doubles) -> None:
        for span in spans:
            for start in range(span.start, span.stop, _SLICE):
                part = slice(start, min(start + _SLICE, span.stop))
                values = self._impacts.take(postings.impacts[part])
                values *= terms.weights[span.number]
                np.add.at(scores, postings.rows[part].astype(np.intp), values)

    def _scores_of(self, segment: Segment, rows: Rows, terms: _Terms) -> Doubles:
        """The scores of these rows: the same sums as over all rows."""
        scores = np.zeros(len(rows))
        for _, values in self._values(segment, rows, terms):
            scores += values
        return scores

    def _values(self, segment: Segment, rows: Rows, terms: _Terms) -> Iterator[tuple[int, Doubles]]:
        """For each term that the segment has: its number, and what it adds to the score of each row."""
        wanted = rows.astype(np.uint32)  # another type would have all postings converted
        for span in terms.spans[segment]:
            present = segment.postings.rows[span.start : span.stop]
            places = np.searchsorted(present, wanted)
            places[places == len(present)] = 0
            values = self._impacts.take(segment.postings.impacts[span.start : span.stop][places])
            values *= terms.weights[span.number]
            values[present[places] != wanted] = 0
            yield span.number, values


@contextmanager
def _pointing_to_rows() -> Iterator[None]:
    try:
        yield
    except IndexError as exc:
        raise IndexDamaged(f"The postings of a term are damaged: {exc}") from exc


def _rows_of(segment: Segment, spans: list[_Span], mask: Mask | None) -> Rows:
    """The rows with one of the terms that the mask allows, rising."""
    none = np.empty(0, dtype=np.uint32)
    parts = [segment.postings.rows[span.start : span.stop] for span in spans]
    rows = np.unique(np.concatenate([none, *parts])).astype(np.int64)
    if mask is None:
        return rows
    with _pointing_to_rows():
        return rows[mask[rows]]


def _spans(segment: Segment, keys: NDArray[np.uint64]) -> Iterator[_Span]:
    """The terms that the segment has."""
    vocabulary, starts = segment.terms.vocabulary, segment.postings.starts
    if not len(vocabulary):
        return
    places = np.searchsorted(vocabulary, keys)
    places[places == len(vocabulary)] = 0
    for number in np.flatnonzero(vocabulary[places] == keys).tolist():
        place = places[number]
        yield _Span(number=number, start=int(starts[place]), stop=int(starts[place + 1]))


def _highest(scores: Doubles, limit: int, least: float) -> tuple[Rows, Floats]:
    """Places and values of the `limit` highest scores above zero, in no promised order.

    Ties go to the lower place. Scores below `least` may be left out.
    """
    n_strided = len(scores) // _STRIDES
    if limit <= n_strided and not least:
        tops = scores[: n_strided * _STRIDES].reshape(_STRIDES, n_strided).max(axis=0)
        # So many different places have this score or a higher one.
        least = np.partition(tops, n_strided - limit)[n_strided - limit]
    # Doubles somewhat below may be the same number in single precision, which is what counts.
    places = np.flatnonzero(scores > np.nextafter(np.float32(least), np.float32(0)))
    singles = scores[places].astype(np.float32)
    if len(places) > limit:
        border = np.partition(singles, len(singles) - limit)[len(singles) - limit]
        above, equal = np.flatnonzero(singles > border), np.flatnonzero(singles == border)
        chosen = np.concatenate([above, equal[: limit - len(above)]])
        places, singles = places[chosen], singles[chosen]
    return places, singles
