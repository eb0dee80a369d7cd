"""Nearest neighbours by inner product over all segments of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from indexing.device_scan import DeviceScans
from indexing.found import Found, best
from indexing.segment_set import SegmentSet, Selection
from indexing.segments import Segment
from indexing.types import Floats, Ids
from indexing.vectors import Mask, Rows, nearest_among

# Rows looked at in the fp16 store per row wanted, over all segments together (benchmarks/million.py).
REFINE_FACTOR = 20
# Where so many are more than this share of the rows allowed, an exact scan of those is as quick.
MAX_WANTED_SHARE = 0.06
# A filter is applied to the estimates, so more are fetched that enough are left: it may thin the best rows
# more than the others.
FILTER_MARGIN = 1.3
# How uneven over the segments the best rows may be before a segment is asked a second time.
SPREAD_MARGIN = 1.3
# Every search asks for at least this many, so that a shorter result is a prefix of a longer one.
MIN_DEPTH = 128
# Fetched beyond the limit, so that most ties at the border are seen whole at once.
TIE_MARGIN = 8
# Sums of 1536 products differ by less than this between the engine's arithmetic and ours.
TIE_TOLERANCE = 1e-5


class VectorIndex:
    """Inner products over all live rows of a snapshot. Safe to use from several threads."""

    def __init__(self, segments: SegmentSet, scans: DeviceScans | None = None) -> None:
        """With `scans` every segment that fits is searched on their device, exactly."""
        self._segments = segments
        self._scans = scans

    def search(self, vector: Floats, limit: int, selection: Selection | None = None) -> Found:
        """The `limit` best chunks, best first, ties by chunk id; fewer only if there are fewer.

        `vector` has shape (dim,). Raises ValueError for another shape. Exact, but for segments with codes,
        where recall is that of the one-bit scan.
        """
        self._check(vector)
        vector = np.ascontiguousarray(vector, dtype=np.float32)
        selection = selection or self._segments.everything
        depth = max(limit, MIN_DEPTH) + TIE_MARGIN
        while True:
            found = self._nearest(vector, depth, selection)
            seen_all = len(found) <= limit or depth >= selection.n_rows
            # what was not fetched is no better than the last that was
            if seen_all or found.scores[-1] < found.scores[limit - 1] - TIE_TOLERANCE:
                return found.head(limit)
            depth *= 4

    def score(self, vector: Floats, chunk_ids: Ids) -> Floats:
        """The inner product of every given chunk; raises KeyError for a chunk that is not there."""
        self._check(vector)
        scores = np.zeros(len(chunk_ids), dtype=np.float32)
        for segment, positions, rows in self._segments.located(chunk_ids):
            scores[positions] = segment.vectors.score(vector, rows)
        return scores

    def stored(self, chunk_ids: Ids) -> Floats:
        """The vector of every given chunk, shape (n, dim); raises KeyError for a chunk that is not there."""
        vectors = np.zeros((len(chunk_ids), self._segments.dim), dtype=np.float32)
        for segment, positions, rows in self._segments.located(chunk_ids):
            vectors[positions] = segment.vectors.halves[rows]
        return vectors

    def take(self, chunk_ids: Ids) -> Floats:
        """The stored vector of every given chunk, shape (n, dim); raises KeyError for one not there."""
        vectors = np.empty((len(chunk_ids), self._segments.dim), dtype=np.float32)
        for segment, positions, rows in self._segments.located(chunk_ids):
            vectors[positions] = segment.vectors.halves[rows]
        return vectors

    def _nearest(self, vector: Floats, depth: int, selection: Selection) -> Found:
        n_wanted = depth * REFINE_FACTOR
        parts, scans = [], []
        for segment, mask, n_allowed in self._segments.selected(selection):
            on_device = None if self._scans is None else self._scans.of(segment.files)
            if on_device is not None:
                rows = on_device.nearest(vector, depth, mask, n_allowed)
                parts.append(segment.found(rows, segment.vectors.score(vector, rows)))
            elif segment.vectors.coded and n_wanted <= MAX_WANTED_SHARE * n_allowed:
                scans.append(_Scan(segment, mask, n_allowed))
            else:
                parts.append(_exact(segment, mask, n_allowed, vector, depth))
        parts += _refined(scans, vector, depth, n_wanted)
        return best(parts, depth)

    def _check(self, vector: Floats) -> None:
        dim = self._segments.dim
        if vector.shape != (dim,):
            raise ValueError(f"The query vector has shape {vector.shape}, the index needs ({dim},).")


@dataclass(frozen=True, slots=True)
class _Scan:
    """Rows of a segment whose nearest are to be found by their codes."""

    segment: Segment
    mask: Mask | None
    n_allowed: int

    def estimate(self, vector: Floats, n_wanted: float) -> _Estimates:
        """About the `n_wanted` allowed rows with the highest estimates."""
        if self.mask is not None:
            n_wanted *= FILTER_MARGIN * len(self.segment) / self.n_allowed
        estimates, rows = self.segment.vectors.estimate(vector, ceil(n_wanted))
        # Rows that were not fetched have no higher estimate than this.
        bound = estimates.min() if len(rows) < len(self.segment) else -np.inf
        if self.mask is not None:
            kept = self.mask[rows]
            estimates, rows = estimates[kept], rows[kept]
        return _Estimates(estimates, rows, float(bound))


@dataclass(frozen=True, slots=True)
class _Estimates:
    values: Floats
    rows: Rows
    bound: float


def _exact(segment: Segment, mask: Mask | None, n_allowed: int, vector: Floats, depth: int) -> Found:
    rows = segment.vectors.nearest(vector, depth, mask, n_allowed)
    return segment.found(rows, segment.vectors.score(vector, rows))


def _refined(scans: list[_Scan], vector: Floats, depth: int, n_wanted: int) -> list[Found]:
    """The `depth` best of the `n_wanted` rows with the highest estimates, of all segments together."""
    if not scans:
        return []
    n_allowed = sum(scan.n_allowed for scan in scans)
    # First as if the best rows were spread evenly; where a segment has more of them, once more.
    found = [scan.estimate(vector, SPREAD_MARGIN * n_wanted * scan.n_allowed / n_allowed) for scan in scans]
    border = _border(found, n_wanted)
    found = [
        scan.estimate(vector, n_wanted) if len(scans) > 1 and part.bound > border else part
        for scan, part in zip(scans, found, strict=True)
    ]
    border = _border(found, n_wanted)
    parts, rows = [], []
    for scan, part in zip(scans, found, strict=True):
        # What is missing of a filter's rows is not among those fetched: see all of them.
        complete = part.bound <= border
        rows.append(np.sort(part.rows[part.values >= border]) if complete else part.rows[:0])
        if not complete:
            parts.append(_exact(scan.segment, scan.mask, scan.n_allowed, vector, depth))
    owners = np.repeat(np.arange(len(scans)), [len(chosen) for chosen in rows])
    halves = [scan.segment.vectors.halves[chosen] for scan, chosen in zip(scans, rows, strict=True)]
    nearest = nearest_among(vector, np.concatenate(halves), depth)
    all_rows = np.concatenate(rows)
    for number, scan in enumerate(scans):
        best_rows = all_rows[nearest[owners[nearest] == number]]
        parts.append(scan.segment.found(best_rows, scan.segment.vectors.score(vector, best_rows)))
    return parts


def _border(found: list[_Estimates], n_wanted: int) -> float:
    """The estimate that the `n_wanted` best have or exceed; less than any if there are fewer."""
    values = np.concatenate([part.values for part in found])
    if len(values) < n_wanted:
        return -np.inf
    return float(np.partition(values, len(values) - n_wanted)[len(values) - n_wanted])
