"""Retrieval by exact phrases and distinctive n-grams: every hit can show the words that brought it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.snapshot import Snapshot
from indexing.types import ChunkId, Floats, Ids
from indexing.words import forms_of
from retrievers.hits import to_hits
from retrievers.ngrams import Mask, Ngram, covered_score, ngrams_of, score_bounds, weight
from retrievers.types import Hit, Query, Texts

MAX_TERMS = 64
"""Distinct terms of a query that count, the quoted ones first."""

FIRST_BATCH = 32
LARGEST_BATCH = 1000
ROUNDING = 1e-5
"""By how much a score in single precision may exceed its bound, and more."""

Bits = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The n-grams by falling weight, and for each the bits of the terms that a row must have."""

    ngrams: tuple[Ngram, ...]
    weights: tuple[float, ...]
    needs: tuple[int, ...]

    def possible(self, bits: Bits) -> Mask:
        """For each row's bits and each n-gram: whether the row has all its terms."""
        needs = np.array(self.needs, dtype=np.uint64)
        return np.asarray((bits[:, None] & needs) == needs)

    def score(self, numbers: Sequence[int]) -> float:
        return covered_score([self.ngrams[n] for n in numbers], [self.weights[n] for n in numbers])

    def present(self, numbers: Sequence[int], text: str) -> list[int] | None:
        """Those of the possible n-grams that stand in a text; None where a quoted one does not."""
        # A word has no blank in it, so that words in a row are a part of this.
        line = f" {' '.join(forms_of(text))} "
        found = []
        for number in numbers:
            ngram = self.ngrams[number]
            if not ngram.exact or f" {ngram.text} " in line:
                found.append(number)
            elif ngram.required:
                return None
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """Rows by falling bound: what each may have at best, by its place among `kinds`."""

    chunk_ids: Ids
    document_ids: Ids
    kinds: NDArray[np.int64]
    bounds: Floats


class NgramRetriever:
    """Scores a chunk by the n-grams of the query that stand in its contextual text.

    The score is that of SEAL (see `retrievers.ngrams`) with P(n) from the share of live chunks that have all
    terms of n. The postings of an n-gram's terms give the rows that may have it; their texts are read, the
    most promising first, until no other row can come to the result. So the result is that of reading all
    texts. What is in quotation marks must stand in a hit word for word; where nothing is, a hit's score is
    above zero.
    """

    def __init__(self, snapshot: Snapshot, texts: Texts) -> None:
        self._snapshot = snapshot
        self._texts = texts

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        lexical = self._snapshot.lexical
        ngrams, terms = _counted(ngrams_of(query.text, lexical.terms_of))
        if not ngrams or top_k < 1:
            return []
        presence = lexical.presence(terms)
        plan = _plan(ngrams, terms, [bits for _, bits in presence], self._snapshot.segments.n_live)
        required = _union(need for ngram, need in zip(plan.ngrams, plan.needs, strict=True) if ngram.required)
        any_row = required == 0 and any(ngram.required for ngram in plan.ngrams)
        selection = self._snapshot.select(query.allowed_documents)
        parts = []
        for (segment, bits), mask in zip(presence, selection.masks, strict=True):
            wanted = bits & np.uint64(required) == required if required or any_row else bits > 0
            rows = np.flatnonzero(wanted if mask is None else wanted & mask)
            parts.append((segment.chunk_ids[rows], segment.document_ids_of(rows), bits[rows]))
        return self._best(plan, [np.concatenate(column) for column in zip(*parts, strict=True)], top_k)

    def _best(self, plan: _Plan, columns: list[NDArray[np.generic]], top_k: int) -> list[Hit]:
        if not columns:
            return []
        chunk_ids, document_ids, bits = columns
        kinds, kind_of = np.unique(bits, return_inverse=True)
        possible = plan.possible(np.asarray(kinds, dtype=np.uint64))
        bounds = score_bounds(plan.ngrams, plan.weights, possible).astype(np.float32)[kind_of]
        order = np.lexsort((chunk_ids, -bounds))
        candidates = _Candidates(
            chunk_ids=np.asarray(chunk_ids[order], dtype=np.int64),
            document_ids=np.asarray(document_ids[order], dtype=np.int64),
            kinds=kind_of[order],
            bounds=bounds[order],
        )
        places, scores = self._scored(plan, candidates, possible, top_k)
        return to_hits(
            candidates.chunk_ids[places],
            candidates.document_ids[places],
            {"ngram": scores},
            by=scores,
            top_k=top_k,
        )

    def _scored(
        self, plan: _Plan, candidates: _Candidates, possible: Mask, top_k: int
    ) -> tuple[NDArray[np.int64], Floats]:
        """Places and scores of candidates, among them all that belong to the best `top_k`."""
        places: list[int] = []
        scores: list[float] = []
        start, size = 0, FIRST_BATCH
        while start < len(candidates.chunk_ids):
            if len(scores) >= top_k:
                least = np.partition(np.array(scores), len(scores) - top_k)[len(scores) - top_k]
                if candidates.bounds[start] * (1 + ROUNDING) < least:
                    break
            batch = range(start, min(start + size, len(candidates.chunk_ids)))
            for place, score in self._scores(plan, candidates, possible, batch):
                places.append(place)
                scores.append(score)
            start, size = batch.stop, min(size * 2, LARGEST_BATCH)
        return np.array(places, dtype=np.int64), np.array(scores, dtype=np.float32)

    def _scores(
        self, plan: _Plan, candidates: _Candidates, possible: Mask, batch: range
    ) -> Iterator[tuple[int, float]]:
        """(place, score) of the candidates that are hits; the text is read only where it decides."""
        numbers = {place: np.flatnonzero(possible[candidates.kinds[place]]).tolist() for place in batch}
        unread = [place for place in batch if any(plan.ngrams[n].exact for n in numbers[place])]
        ids = [ChunkId(int(candidates.chunk_ids[place])) for place in unread]
        texts = dict(zip(unread, self._texts(ids), strict=True)) if ids else {}
        is_quoted = any(ngram.required for ngram in plan.ngrams)
        for place in batch:
            found: list[int] | None = numbers[place]
            if place in texts:
                found = plan.present(numbers[place], texts[place])
            if found is None:
                continue
            score = plan.score(found)
            if score > 0 or is_quoted:
                yield place, score


def _counted(ngrams: list[Ngram]) -> tuple[list[Ngram], list[str]]:
    """The n-grams of the first 64 terms, and the terms; a quoted one stays whatever its terms."""
    terms: dict[str, None] = {}
    kept = []
    for ngram in ngrams:
        merged = dict.fromkeys([*terms, *ngram.terms])
        if len(merged) <= MAX_TERMS:
            terms = merged
            kept.append(ngram)
        elif ngram.required:
            # The text tells; the postings of the terms that fit narrow down where to read.
            terms = dict.fromkeys([*merged][:MAX_TERMS])
            kept.append(ngram)
    return kept, list(terms)


def _plan(ngrams: list[Ngram], terms: list[str], rows: list[Bits], n_live: int) -> _Plan:
    bit_of = {term: 1 << number for number, term in enumerate(terms)}
    needs = [_union(bit_of.get(term, 0) for term in ngram.terms) for ngram in ngrams]
    kinds, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *rows]), return_counts=True)
    weights = [
        weight(int(counts[kinds & np.uint64(need) == np.uint64(need)].sum()), n_live) if need else 0.0
        for need in needs
    ]
    order = sorted(range(len(ngrams)), key=lambda number: (-weights[number], ngrams[number].words))
    return _Plan(
        ngrams=tuple(ngrams[number] for number in order),
        weights=tuple(weights[number] for number in order),
        needs=tuple(needs[number] for number in order),
    )


def _union(bits: Iterator[int]) -> int:
    union = 0
    for bit in bits:
        union |= bit
    return union
