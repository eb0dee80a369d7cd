"""Clusters as in RAPTOR (Sarthi et al. 2024, https://arxiv.org/abs/2401.18059, section 3): soft, first over
all vectors, then within each cluster, none with more text than a summary can be made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexing.tree.mixture import SEED, posteriors, reduced
from indexing.types import Floats

Members = NDArray[np.int64]
"""Places of the members of a cluster, sorted."""

DIM = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """A member joins every cluster that it belongs to with more than `threshold`; clusters of more than
    `max_tokens` are split. Over chunks of 150 tokens that makes clusters of 7, the paper's mean."""

    dim: int = DIM
    threshold: float = 0.1
    max_tokens: int = 1500
    seed: int = SEED


def clusters(vectors: Floats, n_tokens: Sequence[int], spec: ClusterSpec) -> list[Members]:
    """Clusters of at least two members that together have every member, each once, by their members.

    `vectors` has shape (n, dim), each of length 1. Fewer than three members are one cluster. A cluster has
    more than `max_tokens` only where two members alone have.
    """
    sizes = np.asarray(n_tokens, dtype=np.int64)
    everything = np.arange(len(vectors))
    if len(vectors) <= 2:
        return [everything] if len(vectors) else []
    found: list[Members] = []
    for wide in _soft(vectors, everything, _most(len(vectors)), spec):
        for narrow in _soft(vectors, wide, _most(len(wide)), spec):
            found += _fitting(vectors, sizes, narrow, spec)
    return _tidy(vectors, found)


def fitting(vectors: Floats, n_tokens: Sequence[int], spec: ClusterSpec) -> list[Members]:
    """All members as one cluster, or in disjoint parts, none with too much text."""
    return list(_fitting(vectors, np.asarray(n_tokens, dtype=np.int64), np.arange(len(vectors)), spec))


def _most(n: int) -> int:
    """How many clusters at most: adRAP, K <= max(50, sqrt(n))."""
    return max(50, int(n**0.5))


def _soft(vectors: Floats, members: Members, most: int, spec: ClusterSpec) -> Iterator[Members]:
    """Soft clusters of the members: those of posterior above the threshold, and the likeliest always."""
    if len(members) <= 2:
        yield members
        return
    chances = posteriors(reduced(vectors[members], spec.dim), most, spec.seed)
    joins = chances > spec.threshold
    joins[np.arange(len(members)), chances.argmax(axis=1)] = True
    for column in joins.T:
        if column.any():
            yield members[column]


def _fitting(vectors: Floats, sizes: Members, members: Members, spec: ClusterSpec) -> Iterator[Members]:
    """The cluster, or parts of it, none with too much text; each split leaves smaller ones, so it ends."""
    if len(members) <= 2 or sizes[members].sum() <= spec.max_tokens:
        yield members
        return
    for half in _halves(vectors[members]):
        yield from _fitting(vectors, sizes, members[half], spec)


def _halves(vectors: Floats) -> tuple[Members, Members]:
    """Two parts of equal size, cut across the direction in which the vectors differ most."""
    order = np.argsort(reduced(vectors, 1)[:, 0], kind="stable")
    middle = len(order) // 2
    return np.sort(order[:middle]), np.sort(order[middle:])


def _tidy(vectors: Floats, found: Sequence[Members]) -> list[Members]:
    """Without clusters that stand twice; whoever is alone joins the cluster whose mean is nearest."""
    distinct = {tuple(members.tolist()): members for members in found}
    joined = [set(key) for key in distinct if len(key) > 1]
    lonely = sorted({key[0] for key in distinct if len(key) == 1} - set().union(*joined))
    if not joined:
        return [np.array(lonely, dtype=np.int64)]
    means = np.stack([vectors[sorted(members)].mean(axis=0) for members in joined])
    for place in lonely:
        joined[int((means @ vectors[place]).argmax())].add(place)
    return [np.array(key, dtype=np.int64) for key in sorted({tuple(sorted(members)) for members in joined})]
