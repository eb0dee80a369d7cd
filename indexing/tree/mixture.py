"""Soft clusters of points: a Gaussian mixture whose number of components is chosen by BIC."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from indexing.types import Floats

Doubles = NDArray[np.float64]

SEED = 224
"""As in the reference implementation of RAPTOR."""
MAX_COMPONENTS = 50
SAMPLE = 4_000
"""A mixture is fitted to so many points at most; the others are only asked for their posteriors."""
VARIANCE_FLOOR = 0.05
"""Of the mean variance of the points: without it a component shrinks onto one point, whose likelihood is
without bound, and BIC is lowest where every point is a cluster."""


def reduced(vectors: Floats, dim: int) -> Doubles:
    """The `dim` first principal components of the vectors, shape (n, min(dim, n - 1, d)), by falling
    variance; the sign of each is that of its largest entry, so that the same vectors give the same points.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    kept = min(dim, max(len(vectors) - 1, 1), vectors.shape[1])
    if len(vectors) >= vectors.shape[1]:
        _, axes = np.linalg.eigh(centred.T @ centred)
        axes = axes[:, ::-1][:, :kept]
        points = centred @ axes
    else:
        values, sides = np.linalg.eigh(centred @ centred.T)
        lengths = np.sqrt(np.maximum(values[::-1][:kept], 0.0))
        points = sides[:, ::-1][:, :kept] * lengths
    largest = np.take_along_axis(points, np.abs(points).argmax(axis=0)[None], axis=0)
    signed: Doubles = points * np.where(largest < 0, -1.0, 1.0)
    return signed


def posteriors(points: Doubles, max_components: int = MAX_COMPONENTS, seed: int = SEED) -> Doubles:
    """P(component | point), shape (n, n_components), under the mixture of lowest BIC.

    Components have diagonal covariance: the axes are principal components. BIC is Schwarz 1978; candidates
    are `candidates(...)`.
    """
    # Imported where it is needed: it takes two seconds, and a service that only searches has no use for it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    n = len(points)
    if n <= 2:
        return np.ones((n, 1))
    sample = points
    if n > SAMPLE:
        sample = points[np.sort(np.random.default_rng(seed).choice(n, SAMPLE, replace=False))]
    floor = max(VARIANCE_FLOOR * float(points.var(axis=0).mean()), 1e-9)
    best, lowest = None, np.inf
    # One thread: sums in one order, so that the same points give the same clusters.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        for n_components in candidates(len(sample), max_components):
            mixture = GaussianMixture(
                n_components, covariance_type="diag", reg_covar=floor, random_state=seed
            ).fit(sample)
            bic = mixture.bic(sample)
            if bic < lowest:
                best, lowest = mixture, bic
        assert best is not None
        found: Doubles = best.predict_proba(points)
    return found


def candidates(n: int, most: int) -> Iterator[int]:
    """Numbers of components that are tried for n points: all up to 8, then each an eighth more, as long as
    there are two points to each.

    The curve of BIC is flat around its lowest point, so what lies between is not missed.

    >>> list(candidates(50, 50))
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24]
    """
    number = 1
    while number <= min(n // 2, most):
        yield number
        number += max(1, number // 8)
