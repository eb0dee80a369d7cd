"""Any number of retrievers in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np

from indexing.types import ChunkId, DocumentId, Floats, Ids
from retrievers.base import Retriever
from retrievers.fusion import METHODS, RRF_K, Method, ScoredList, fuse
from retrievers.types import Hit, Query

CANDIDATE_K = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionSpec:
    """What is fused and how; `weights` by retriever, 1 where none is given.

    Raises ValueError for what makes no sense: no retriever or one twice, weights of others, weights below
    zero or all zero, weights for `rrf`, which has none.
    """

    retrievers: tuple[str, ...] = ("bm25", "dense")
    method: Method = "rrf"
    weights: Mapping[str, float] = field(default_factory=dict)
    k: int = RRF_K

    def __post_init__(self) -> None:
        if not self.retrievers or len(set(self.retrievers)) < len(self.retrievers):
            raise ValueError("Fusion needs at least one retriever, and each of them once.")
        if self.method not in METHODS:
            raise ValueError(f"There is no fusion {self.method!r}: {', '.join(METHODS)}.")
        if self.k < 1:
            raise ValueError(f"The constant of reciprocal ranks is at least 1, not {self.k}.")
        self._check_weights()

    @property
    def label(self) -> str:
        """The fusion in a few characters, for tables.

        >>> FusionSpec(method="dbsf", weights={"dense": 0.7}).label
        'dbsf(bm25,dense*0.7)'
        >>> FusionSpec(k=20).label
        'rrf:20(bm25,dense)'
        """
        weighed = {name: f"{name}*{weight:g}" for name, weight in self.weights.items()}
        k = f":{self.k}" if self.k != RRF_K and self.method.endswith("rrf") else ""
        return f"{self.method}{k}({','.join(weighed.get(name, name) for name in self.retrievers)})"

    def weighed(self, weights: Mapping[str, float]) -> FusionSpec:
        """The same with these weights; `rrf`, which has none, becomes `weighted_rrf`."""
        method = "weighted_rrf" if self.method == "rrf" else self.method
        return replace(self, method=method, weights=dict(weights))

    def values(self) -> dict[str, Any]:
        """The fusion as JSON has it; `of_values` reads it."""
        return {
            "retrievers": list(self.retrievers),
            "method": self.method,
            "weights": dict(self.weights),
            "k": self.k,
        }

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> FusionSpec:
        """What `values` gave. Raises ValueError for what makes no sense."""
        return cls(**{**values, "retrievers": tuple(values["retrievers"])})

    def _check_weights(self) -> None:
        strangers = sorted(set(self.weights) - set(self.retrievers))
        if strangers:
            raise ValueError(f"There is a weight for {strangers[0]!r}, which is not fused.")
        if self.weights and self.method == "rrf":
            raise ValueError("Plain rrf has no weights: take weighted_rrf.")
        if not all(isfinite(weight) and weight >= 0 for weight in self.weights.values()):
            raise ValueError("Weights are numbers from 0 up.")
        if all(self.weights.get(name, 1.0) == 0 for name in self.retrievers):
            raise ValueError("At least one weight must be above 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the retrievers: `infimum` is the lowest score it can give for a query.

    `score`, where there is one, scores chunks that it did not find, and raises KeyError for one not there.
    """

    retriever: Retriever
    infimum: Callable[[Query], float] = lambda _query: 0.0
    score: Callable[[Query, Ids], Floats] | None = None


class FusedRetriever:
    """Fuses the best `candidate_k` of each part.

    With `convex`, a part that can score any chunk scores those that only others found; elsewhere a chunk gets
    nothing from a list it is not in. A hit keeps rank, score and share of every list that has it, by the
    name of the part. Raises what the parts raise.
    """

    def __init__(
        self, parts: Mapping[str, Part], spec: FusionSpec, *, candidate_k: int = CANDIDATE_K
    ) -> None:
        self._parts = {name: parts[name] for name in spec.retrievers}
        self._spec = spec
        self._candidate_k = candidate_k

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        depth = max(top_k, self._candidate_k)
        found = {name: part.retriever.retrieve(queries, depth) for name, part in self._parts.items()}
        return [
            self._fuse(query, {name: rankings[number] for name, rankings in found.items()}, top_k)
            for number, query in enumerate(queries)
        ]

    def _fuse(self, query: Query, rankings: Mapping[str, Sequence[Hit]], top_k: int) -> list[Hit]:
        lists = {name: self._list(name, query, hits) for name, hits in rankings.items()}
        if self._spec.method == "convex":
            everything = np.unique(np.concatenate([found.ids for found in lists.values()]))
            lists = {
                name: _completed(self._parts[name], query, found, everything) for name, found in lists.items()
            }
        fused = fuse(lists, self._spec.method, weights=self._spec.weights, k=self._spec.k)
        traces = _traces(rankings, lists)
        by = fused.scores.astype(np.float32)
        return [
            Hit(
                chunk_id=ChunkId(int(fused.ids[place])),
                document_id=traces[int(fused.ids[place])].document_id,
                score=float(by[place]),
                rank=rank,
                scores=traces[int(fused.ids[place])].scores,
                ranks=traces[int(fused.ids[place])].ranks,
                shares={name: float(share[place]) for name, share in fused.shares.items() if share[place]},
            )
            for rank, place in enumerate(np.lexsort((fused.ids, -by))[:top_k], start=1)
        ]

    def _list(self, name: str, query: Query, hits: Sequence[Hit]) -> ScoredList:
        return ScoredList(
            ids=np.array([hit.chunk_id for hit in hits], dtype=np.int64),
            scores=np.array([hit.score for hit in hits], dtype=np.float32),
            infimum=self._parts[name].infimum(query),
        )


@dataclass(slots=True, kw_only=True)
class _Trace:
    """What the lists say of one chunk."""

    document_id: DocumentId
    scores: dict[str, float] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)


def _traces(rankings: Mapping[str, Sequence[Hit]], lists: Mapping[str, ScoredList]) -> dict[int, _Trace]:
    traces: dict[int, _Trace] = {}
    for name, hits in rankings.items():
        for hit in hits:
            trace = traces.setdefault(hit.chunk_id, _Trace(document_id=hit.document_id))
            # A part that is a fusion itself says what it rests on; the name of a list is for the list.
            trace.scores = {**hit.scores, **trace.scores}
            trace.ranks[name] = hit.rank
    for name, found in lists.items():
        for chunk_id, score in zip(found.ids.tolist(), found.scores.tolist(), strict=True):
            traces[chunk_id].scores[name] = score
    return traces


def _completed(part: Part, query: Query, found: ScoredList, everything: Ids) -> ScoredList:
    """The list with the ids it lacks behind, scored by the part where it can."""
    missing = np.setdiff1d(everything, found.ids)
    if part.score is None or not len(missing):
        return found
    ids = np.concatenate([found.ids, missing])
    scores = np.concatenate([found.scores, part.score(query, missing)])
    order = np.lexsort((ids, -scores))
    return ScoredList(ids=ids[order], scores=scores[order], infimum=found.infimum)
