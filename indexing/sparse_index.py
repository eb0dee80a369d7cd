"""Inner products of sparse vectors, over the postings of a snapshot's segments.

Sums are taken in double precision, term by term as the terms rise, and brought to scale at the end. So the
same chunks give the same scores, to the last bit, however the index came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from indexing.errors import IndexDamaged
from indexing.found import Found, best
from indexing.segment_set import SegmentSet, Selection
from indexing.segments import Segment
from indexing.sparse_codes import Rows, SparseVector
from indexing.types import Floats, Ids

Doubles = NDArray[np.float64]

# Finding one row among a term's postings costs as much as adding up so many postings one after another.
_LOOKUP_COST = 8


class SparseIndex:
    """The segments of a snapshot that has sparse vectors. Safe to use from several threads."""

    def __init__(self, segments: SegmentSet) -> None:
        self._segments = segments

    def search(self, query: SparseVector, limit: int, selection: Selection | None = None) -> Found:
        """The `limit` chunks with the highest inner product above zero, best first, ties by chunk id.

        Exact, and fewer only if fewer share a term with the query. Raises IndexDamaged for postings that
        point to no row.
        """
        parts = []
        for segment, mask, size in self._segments.selected(selection or self._segments.everything):
            search = _SegmentSearch(segment, query)
            if mask is None:
                candidates, scores = np.arange(len(segment)), search.scores()
            else:
                candidates = np.flatnonzero(mask)
                few = size * search.n_terms * _LOOKUP_COST < search.n_entries
                scores = search.scores_of(candidates) if few else search.scores()[candidates]
            places = _highest(scores, limit)
            parts.append(segment.found(candidates[places], scores[places]))
        return best(parts, limit)

    def score(self, query: SparseVector, chunk_ids: Ids) -> Floats:
        """The inner product with every given chunk; KeyError for one that is not there."""
        scores = np.zeros(len(chunk_ids), dtype=np.float32)
        for segment, positions, rows in self._segments.located(chunk_ids):
            scores[positions] = _SegmentSearch(segment, query).scores_of(rows)
        return scores

    def contributions(self, query: SparseVector, chunk_id: int) -> Mapping[int, float]:
        """What each term adds to the chunk's score, by its number; the sum is the score."""
        ((segment, _, rows),) = self._segments.located(np.array([chunk_id], dtype=np.int64))
        search = _SegmentSearch(segment, query)
        scale = float(search.postings.scales[rows[0]])
        added = {term: float(products[0]) * scale for term, products in search.products_of(rows)}
        return {term: value for term, value in added.items() if value}


class _SegmentSearch:
    """A query in one segment: its terms that the segment has, and where their postings are."""

    def __init__(self, segment: Segment, query: SparseVector) -> None:
        if segment.sparse is None:
            raise IndexDamaged(f"{segment.name} has no sparse vectors.")
        self.postings = segment.sparse
        vocabulary = self.postings.vocabulary
        places = np.searchsorted(vocabulary, query.terms)
        present = places < len(vocabulary)
        present[present] = vocabulary[places[present]] == query.terms[present]
        self._terms = query.terms[present].tolist()
        self._weights = query.weights[present].astype(np.float64).tolist()
        self._starts = self.postings.starts[places[present]].tolist()
        self._stops = self.postings.starts[places[present] + 1].tolist()

    @property
    def n_terms(self) -> int:
        return len(self._terms)

    @property
    def n_entries(self) -> int:
        return int(sum(self._stops) - sum(self._starts))

    def scores(self) -> Floats:
        """The scores of all rows."""
        sums = np.zeros(len(self.postings))
        for weight, start, stop in zip(self._weights, self._starts, self._stops, strict=True):
            # A row stands once among the postings of a term, so this adds to each at most once.
            rows = self.postings.rows[start:stop].astype(np.intp)
            with _pointing_to_rows():
                sums[rows] += self.postings.levels[start:stop] * weight
        return (sums * self.postings.scales).astype(np.float32)

    def scores_of(self, rows: Rows) -> Floats:
        """The scores of some rows: the same sums as over all rows."""
        sums = np.zeros(len(rows))
        for _, products in self.products_of(rows):
            sums += products
        return (sums * self.postings.scales[rows]).astype(np.float32)

    def products_of(self, rows: Rows) -> Iterator[tuple[int, Doubles]]:
        """Each term, and what it adds to the sum of each of the rows before they are brought to scale."""
        wanted = rows.astype(np.uint32)
        for term, weight, start, stop in zip(
            self._terms, self._weights, self._starts, self._stops, strict=True
        ):
            present = self.postings.rows[start:stop]
            places = np.searchsorted(present, wanted)
            places[places == len(present)] = 0
            products = self.postings.levels[start:stop][places] * weight
            yield term, np.where(present[places] == wanted, products, 0.0)


@contextmanager
def _pointing_to_rows() -> Iterator[None]:
    try:
        yield
    except IndexError as exc:
        raise IndexDamaged(f"The postings of a term are damaged: {exc}") from exc


def _highest(scores: Floats, limit: int) -> Rows:
    """Places of the `limit` highest scores above zero, in no promised order; ties go to the lower place."""
    places = np.flatnonzero(scores > 0)
    if limit < 1:
        return places[:0]
    if len(places) > limit:
        values = scores[places]
        border = np.partition(values, len(values) - limit)[len(values) - limit]
        above, equal = np.flatnonzero(values > border), np.flatnonzero(values == border)
        places = places[np.concatenate([above, equal[: limit - len(above)]])]
    return places
