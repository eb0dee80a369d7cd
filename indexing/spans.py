"""Runs of neighbouring numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def spans(starts: Integers, sizes: Integers) -> Integers:
    """The numbers from each start on, as many as its size says, one span after another.

    >>> spans(np.array([7, 0, 3]), np.array([2, 0, 3])).tolist()
    [7, 8, 3, 4, 5]
    """
    ends = np.cumsum(sizes)
    n = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(n) + np.repeat(starts - (ends - sizes), sizes))
