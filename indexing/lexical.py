"""The inverted index (tantivy) and BM25 over it.

tantivy finds candidates and orders them; the score itself is computed from the segments' term tables with
the statistics of the live chunks. So a score does not depend on what was deleted earlier, on how the index
came about, or on the order in which sums are taken: the same chunks give the same scores, to the last bit.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import tantivy
from numpy.typing import NDArray

from indexing.analysis import NAME as ANALYZER
from indexing.analysis import build_analyzer
from indexing.bm25 import coded_length, idf, term_weight
from indexing.errors import IndexDamaged
from indexing.files import link_file
from indexing.found import Found, best
from indexing.segments import Segment, SegmentSet, Selection
from indexing.terms import term_key
from indexing.types import Floats, Ids

# With so few rows allowed, scoring all of them beats asking the inverted index for more and more.
SCAN_ROWS = 8192
# Ties at the border are resolved by fetching all that tie, up to this many.
MAX_TIED = 16_384
# tantivy sums in float32, we in float64.
ROUNDING = 1e-5

_HEAP_BYTES = 64_000_000
# tantivy replaces these two; every other file of it is written once under a name of its own.
REPLACED = frozenset({"meta.json", ".managed.json"})
_LOCKS = (".tantivy-writer.lock", ".tantivy-meta.lock")


def _schema() -> tantivy.Schema:
    return (
        tantivy.SchemaBuilder()
        .add_integer_field("chunk_id", indexed=True, fast=True)
        .add_text_field("text", tokenizer_name=ANALYZER, index_option="freq")
        .build()
    )


class LexicalWriter:
    """Extends an inverted index in a working directory; the directory it starts from stays as it is."""

    def __init__(self, working: Path, base: Path | None) -> None:
        working.mkdir()
        self._working = working
        if base is not None:
            for path in base.iterdir():
                if path.name in REPLACED:
                    shutil.copyfile(path, working / path.name)
                elif path.name not in _LOCKS:
                    link_file(path, working / path.name)
        self._index = tantivy.Index(_schema(), path=str(working))
        self._index.register_tokenizer(ANALYZER, build_analyzer())
        self._writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)

    def add(self, chunk_id: int, text: str) -> None:
        self._writer.add_document(tantivy.Document(chunk_id=chunk_id, text=text))

    def delete(self, chunk_id: int) -> None:
        """Deletes what was added under the id before this call."""
        self._writer.delete_documents_by_term("chunk_id", chunk_id)

    def finish(self) -> None:
        """Writes everything; the directory is then complete and nothing touches it any more."""
        self._writer.commit()
        self._writer.wait_merging_threads()
        for name in _LOCKS:
            (self._working / name).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """The terms of a query that stand in the collection: their keys, rising, and weights."""

    texts: tuple[str, ...]
    keys: NDArray[np.uint64]
    weights: NDArray[np.float64]
    repeats: tuple[int, ...]


class LexicalIndex:
    """BM25 over the live rows of a snapshot. Safe to use from several threads."""

    def __init__(self, directory: Path | None, segments: SegmentSet) -> None:
        self._segments = segments
        self._analyzer = build_analyzer()
        self._searcher: tantivy.Searcher | None = None
        if directory is not None:
            try:
                index = tantivy.Index.open(str(directory))
            except ValueError as exc:
                raise IndexDamaged(f"The inverted index in {directory} cannot be opened: {exc}") from exc
            index.config_reader("manual")
            self._schema = index.schema
            self._searcher = index.searcher()
        n_tokens = sum(segment.n_tokens for segment in segments.segments)
        self._average_length = n_tokens / segments.n_live if n_tokens else 1.0

    def search(self, text: str, limit: int, selection: Selection | None = None) -> Found:
        """The `limit` best chunks that share a term with the text, best first, ties by chunk id.

        Fewer only if fewer share one. Ties of more than 16,384 chunks at the border are cut arbitrarily.
        """
        terms = self._terms(text)
        selection = selection or self._segments.everything
        if not terms.texts or not selection.n_rows or limit < 1:
            return best([], limit)
        if selection is not self._segments.everything and selection.n_rows <= SCAN_ROWS:
            return self._scan(terms, limit, selection)
        share = selection.n_rows / self._segments.n_live
        depth = ceil((limit * 1.25 + 16) / share)
        while True:
            found, bound = self._top(terms, depth, selection)
            complete = len(found) >= limit and (
                found.scores[limit - 1] > bound or depth > MAX_TIED + limit / share
            )
            if bound == 0 or complete:
                return found.head(limit)
            depth *= 4

    def score(self, text: str, chunk_ids: Ids) -> Floats:
        """BM25 of every given chunk, 0 for one without a term of the text; KeyError for one not there."""
        terms = self._terms(text)
        scores = np.zeros(len(chunk_ids), dtype=np.float32)
        for segment, positions, rows in self._segments.located(chunk_ids):
            scores[positions] = self._scores(segment, rows, terms)
        return scores

    def contributions(self, text: str, chunk_id: int) -> Mapping[str, float]:
        """What each term adds to the chunk's score; the sum is the score."""
        terms = self._terms(text)
        ids = np.array([chunk_id], dtype=np.int64)
        ((segment, _, rows),) = self._segments.located(ids)
        numbers, _, values = self._values(segment, rows, terms)
        return {terms.texts[number]: float(value) for number, value in zip(numbers, values, strict=True)}

    def chunk_ids(self) -> Ids:
        """The ids of all chunks in the inverted index, sorted: for verification, not for search."""
        if self._searcher is None or self._searcher.num_docs == 0:
            return np.empty(0, dtype=np.int64)
        everything = tantivy.Query.all_query()
        hits = self._searcher.search(everything, limit=self._searcher.num_docs, count=False).hits
        return np.sort(self._ids([address for _, address in hits]))

    def _terms(self, text: str) -> _Terms:
        repeats = Counter(self._analyzer.analyze(text))
        found = []
        for term, repeat in repeats.items():
            key = term_key(term)
            frequency = sum(_frequency(segment, key) for segment in self._segments.segments)
            if frequency:
                found.append((key, term, repeat, idf(self._segments.n_live, frequency) * repeat))
        found.sort()
        return _Terms(
            keys=np.array([key for key, *_ in found], dtype=np.uint64),
            texts=tuple(term for _, term, _, _ in found),
            repeats=tuple(repeat for _, _, repeat, _ in found),
            weights=np.array([weight for *_, weight in found], dtype=np.float64),
        )

    def _top(self, terms: _Terms, depth: int, selection: Selection) -> tuple[Found, float]:
        """Those of tantivy's best `depth` that are selected, and a score that no other chunk exceeds."""
        assert self._searcher is not None
        hits = self._searcher.search(self._query(terms), limit=depth, count=False).hits
        chunk_ids = self._ids([address for _, address in hits])
        theirs = np.array([score for score, _ in hits], dtype=np.float64)
        parts, drift = [], 1.0
        try:
            for segment, positions, rows in self._segments.located(chunk_ids):
                scores = self._scores(segment, rows, terms)
                # Deleted chunks that tantivy still counts shift its scores; by how much shows here.
                drift = max(drift, float((scores / theirs[positions]).max()))
                mask = selection.masks[self._segments.segments.index(segment)]
                kept = slice(None) if mask is None else mask[rows]
                parts.append(segment.found(rows[kept], scores[kept]))
        except KeyError as exc:
            raise IndexDamaged(f"The inverted index has a chunk that no segment has: {exc}") from exc
        bound = float(theirs[-1]) * drift * (1 + ROUNDING) if len(hits) == depth else 0.0
        return best(parts, depth), bound

    def _scan(self, terms: _Terms, limit: int, selection: Selection) -> Found:
        parts = []
        for segment, mask, _ in self._segments.selected(selection):
            rows = segment.live_rows if mask is None else np.flatnonzero(mask)
            scores = self._scores(segment, rows, terms)
            parts.append(segment.found(rows[scores > 0], scores[scores > 0]))
        return best(parts, limit)

    def _scores(self, segment: Segment, rows: NDArray[np.int64], terms: _Terms) -> Floats:
        _, owners, values = self._values(segment, rows, terms)
        return np.bincount(owners, weights=values, minlength=len(rows)).astype(np.float32)

    def _values(
        self, segment: Segment, rows: NDArray[np.int64], terms: _Terms
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """For every (query term, row) that meet: the term's number, the row's position, the contribution."""
        table = segment.terms
        number_of = np.zeros(len(table.vocabulary), dtype=np.uint16)
        for number, key in enumerate(terms.keys):
            place = np.searchsorted(table.vocabulary, key)
            if place < len(table.vocabulary) and table.vocabulary[place] == key:
                number_of[place] = number + 1
        places, owners = table.entries(rows)
        numbers = number_of[table.ordinals[places]]
        hits = np.flatnonzero(numbers)
        term_numbers = numbers[hits].astype(np.int64) - 1
        owners = owners[hits]
        lengths = coded_length(table.lengths[rows])[owners]
        counts = table.counts[places[hits]].astype(np.float64)
        weights = terms.weights[term_numbers]
        return term_numbers, owners, weights * term_weight(counts, lengths, self._average_length)

    def _query(self, terms: _Terms) -> tantivy.Query:
        clauses = []
        for term, repeat in zip(terms.texts, terms.repeats, strict=True):
            clause = tantivy.Query.term_query(self._schema, "text", term, "freq")
            if repeat > 1:
                clause = tantivy.Query.boost_query(clause, float(repeat))
            clauses.append((tantivy.Occur.Should, clause))
        return tantivy.Query.boolean_query(clauses)

    def _ids(self, addresses: list[tantivy.DocAddress]) -> Ids:
        assert self._searcher is not None
        if not addresses:
            return np.empty(0, dtype=np.int64)
        return np.array(self._searcher.fast_field_values("chunk_id", addresses), dtype=np.int64)


def _frequency(segment: Segment, key: int) -> int:
    vocabulary = segment.terms.vocabulary
    place = np.searchsorted(vocabulary, np.uint64(key))
    present = place < len(vocabulary) and vocabulary[place] == key
    return int(segment.frequencies[place]) if present else 0
