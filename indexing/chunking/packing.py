"""Packs units into chunks: of like size, cut where the text allows it best."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

from indexing.chunking.units import PARAGRAPH, SENTENCE, Units

LEAST_SHARE = 0.5
"""A chunk is not cut below this share of its target size, however well the text could be cut there."""


@dataclass(frozen=True, slots=True)
class Packer:
    """`costs`, `tokens` and `joints` are running sums over the units, beginning with 0.

    A joint is a unit with no white space before it; tokens do not add up over it.
    """

    costs: Sequence[int]
    tokens: Sequence[int]
    joints: Sequence[int]
    cuts: Sequence[float]

    @classmethod
    def of(cls, units: Units) -> Packer:
        joints = map(int.__eq__, units.starts, chain((-1,), units.ends))
        return cls(
            costs=array("i", accumulate(units.costs, initial=0)),
            tokens=array("i", accumulate(units.tokens, initial=0)),
            joints=array("i", accumulate(joints, initial=0)),
            cuts=units.cuts,
        )

    def glued(self, begin: int, end: int) -> bool:
        """Whether some units `[begin, end)` follow one another without white space."""
        return self.joints[end] > self.joints[begin + 1]

    def pack(self, first: int, last: int, max_cost: int, max_overlap: int) -> Iterator[tuple[int, int]]:
        """Runs `[begin, end)` of units that together hold `first` to `last`, each within `max_cost`.

        A run may repeat the last sentences of the one before, where that one was cut inside a paragraph.
        """
        begin = first
        while True:
            end = self._end(begin, last, max_cost)
            yield begin, end
            if end == last:
                return
            begin = self._begin(begin, end, max_cost, max_overlap)

    def _end(self, begin: int, last: int, max_cost: int) -> int:
        costs, base = self.costs, self.costs[begin]
        remaining = costs[last] - base
        if remaining <= max_cost:
            return last
        # Equal shares, or the last chunk would be a scrap.
        target = remaining / -(-remaining // max_cost)
        least = bisect_left(costs, base + LEAST_SHARE * target, begin + 1, last)
        most = bisect_right(costs, base + max_cost, begin + 1, last) - 1
        if most <= begin:
            return begin + 1
        candidates = range(min(least, most), most + 1)
        return min(candidates, key=lambda end: abs(costs[end] - base - target) / target + self.cuts[end])

    def _begin(self, begin: int, end: int, max_cost: int, max_overlap: int) -> int:
        """Where the chunk behind `end` begins: there, or some sentences earlier in the same paragraph."""
        costs = self.costs
        earliest = max(costs[end] - max_overlap, costs[end + 1] - max_cost)
        start = end
        while start - 1 > begin and costs[start - 1] >= earliest and PARAGRAPH < self.cuts[start] <= SENTENCE:
            start -= 1
        return start
