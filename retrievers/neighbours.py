"""Scores drawn to those of like candidates.

The cluster hypothesis: what is relevant to one query is alike (Jardine and van Rijsbergen 1971). Diaz 2005,
"Regularizing ad hoc retrieval scores", https://doi.org/10.1145/1099554.1099722, smooths the scores of
candidates over their nearest neighbours; here in one step, and of the chances that the scores stand for, so
that the best candidates have the say and a chunk far above all others stays there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from indexing.types import Floats
from retrievers.fusion import Doubles

N_NEIGHBOURS = 20
SHARPNESS = 3
OWN_WEIGHT = 4.0
TEMPERATURE = 0.07


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothing:
    """How the scores of candidates are smoothed; docs/manual/28-auto-mode.md has the measurements.

    The `n_neighbours` nearest have a say, each by its cosine to the power of `sharpness`, and the chunk
    itself by `own_weight`. A score that is higher by `temperature` stands for e times the chance.
    """

    n_neighbours: int = N_NEIGHBOURS
    sharpness: int = SHARPNESS
    own_weight: float = OWN_WEIGHT
    temperature: float = TEMPERATURE

    def __post_init__(self) -> None:
        if self.n_neighbours < 0 or self.sharpness < 1:
            raise ValueError("Smoothing needs at least 0 neighbours and a sharpness of at least 1.")
        if self.own_weight <= 0 or self.temperature <= 0:
            raise ValueError("The own weight and the temperature of smoothing must exceed 0.")


def smoothed(scores: Doubles, vectors: Floats, smoothing: Smoothing) -> Doubles:
    """τ ln((own · e^(s_i/τ) + Σ_j w_ij e^(s_j/τ)) / (own + Σ_j w_ij)) for each candidate i.

    The sum is over the nearest neighbours j of i, w_ij = max(0, cos(i, j))^sharpness; all that are as near as
    the last of them count. What is returned lies between the lowest and the highest score. `scores` has shape
    (n,), `vectors` (n, dim), rows of length 1.

    >>> vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> smoothed(np.array([0.5, 0.4, 0.4]), vectors, Smoothing(own_weight=1.0)).round(3).tolist()
    [0.467, 0.467, 0.4]
    """
    weights = _weights(vectors, smoothing)
    if not len(scores):
        return scores
    highest = scores.max()
    chances = np.exp((scores - highest) / smoothing.temperature)
    totals = smoothing.own_weight + weights.sum(axis=1)
    means = (smoothing.own_weight * chances + weights @ chances) / totals
    return np.asarray(highest + smoothing.temperature * np.log(means))


def _weights(vectors: Floats, smoothing: Smoothing) -> Doubles:
    """w_ij, 0 where j is no neighbour of i, shape (n, n)."""
    n_nearest = min(smoothing.n_neighbours, len(vectors) - 1)
    if n_nearest < 1:
        return np.zeros((len(vectors), len(vectors)))
    cosines = np.asarray(vectors @ vectors.T, dtype=np.float64)
    np.fill_diagonal(cosines, -np.inf)
    place = len(vectors) - n_nearest
    least = np.partition(cosines, place, axis=1)[:, place]
    near = (cosines >= least[:, None]) & (cosines > 0)
    weights = np.zeros_like(cosines)
    weights[near] = cosines[near] ** smoothing.sharpness  # powers are dear: of the few alone
    return weights
