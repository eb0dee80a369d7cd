"""Which segments are written anew together.

Rows arrive in small segments. A commit takes the small ones into the segment that it writes anyway, so that
they stay few and a commit quick; a segment that has become larger than `SEALED_ROWS` is left to background
merges, and one larger than `FULL_ROWS` is final but for its dead rows.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from indexing.manifest import SegmentRecord

SEALED_ROWS = 8192
FULL_ROWS = 2**18
MAX_SEGMENT_ROWS = 2**19
MAX_DEAD_SHARE = 0.25
# A commit always takes segments smaller than this: fewer files for the price of a few milliseconds.
TINY_ROWS = 1024


def plan_commit(n_live: Sequence[int], n_rows: Sequence[int], n_new: int) -> list[int]:
    """The numbers of the segments that a commit of `n_new` rows writes anew with them, smallest first.

    Each is less than twice as large as all before it, so that a row is written anew a few times, not at every
    commit.

    >>> plan_commit([100_000, 3000, 700, 40], [100_000, 3000, 700, 40], 10)
    [3, 2]
    >>> plan_commit([100_000, 3000, 700, 40], [100_000, 3000, 700, 40], 800)
    [3, 2, 1]
    """
    small = sorted(
        (number for number, size in enumerate(n_rows) if size < SEALED_ROWS),
        key=lambda number: n_live[number],
    )
    taken, total = [], n_new
    for number in small if n_new else ():
        if n_live[number] >= max(2 * total, TINY_ROWS):
            break
        taken.append(number)
        total += n_live[number]
    return taken


def plan_merges(segments: Sequence[SegmentRecord], unclean: Container[str] = ()) -> list[list[int]]:
    """The numbers of the segments that a background merge writes anew, a list for each segment it writes.

    Segments of similar size go together, so that each is at least twice as large as the next smaller and
    their number grows with the logarithm of the rows; a segment with many dead rows, or one that is named in
    `unclean`, is written anew alone.
    """
    growing = [
        number
        for number, segment in enumerate(segments)
        if segment.n_rows >= SEALED_ROWS and segment.n_live < FULL_ROWS
    ]
    groups: list[list[int]] = []
    for number in sorted(growing, key=lambda number: -segments[number].n_live):
        groups.append([number])
        while len(groups) > 1:
            before, last = (sum(segments[member].n_live for member in group) for group in groups[-2:])
            if before >= 2 * last or before + last > MAX_SEGMENT_ROWS:
                break
            tail = groups.pop()
            groups[-1].extend(tail)
    groups = [group for group in groups if len(group) > 1]
    grouped = {number for group in groups for number in group}
    return groups + [
        [number]
        for number, segment in enumerate(segments)
        if number not in grouped
        and (segment.n_dead > MAX_DEAD_SHARE * segment.n_rows or segment.name in unclean)
    ]
