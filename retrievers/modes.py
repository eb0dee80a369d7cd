"""The modes of retrieval: for each its name, what it needs, and how its retriever is made.

The one list that the service, the commands and the evaluation choose from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from indexing.snapshot import Snapshot
from indexing.types import ChunkId
from retrievers.base import Retriever
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever
from retrievers.fusion import ALPHA, RRF_K
from retrievers.hybrid import CANDIDATE_K, HybridRetriever
from retrievers.types import Mode

Texts = Callable[[Sequence[ChunkId]], Sequence[str]]
"""The contextual texts of chunks of the snapshot, in the order asked for; "" for one that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What can be set of retrieval; `candidate_k` is how many chunks each retriever gives to fusion."""

    alpha: float = ALPHA
    rrf_k: int = RRF_K
    candidate_k: int = CANDIDATE_K


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What retrievers are made of; everything belongs to one immutable view of a collection."""

    snapshot: Snapshot
    texts: Texts
    rank_bm25: Callable[[], Retriever]
    tuning: Tuning = field(default_factory=Tuning)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeSpec:
    """`title` is one line for people. The query's vector and its token vectors are made where needed."""

    title: str
    build: Callable[[Resources], Retriever]
    needs_vector: bool = True
    needs_tokens: bool = False


def _bm25(resources: Resources) -> Retriever:
    return Bm25Retriever(resources.snapshot)


def _rank_bm25(resources: Resources) -> Retriever:
    return resources.rank_bm25()


def _dense(resources: Resources) -> Retriever:
    return DenseRetriever(resources.snapshot)


def _hybrid(resources: Resources) -> Retriever:
    tuning = resources.tuning
    return HybridRetriever(
        resources.snapshot, method="convex", alpha=tuning.alpha, candidate_k=tuning.candidate_k
    )


def _rrf(resources: Resources) -> Retriever:
    tuning = resources.tuning
    return HybridRetriever(
        resources.snapshot, method="rrf", rrf_k=tuning.rrf_k, candidate_k=tuning.candidate_k
    )


MODES: Mapping[Mode, ModeSpec] = {
    "auto": ModeSpec(title="the default: what measured best offline", build=_hybrid),
    "bm25": ModeSpec(title="words, by BM25 over the inverted index", build=_bm25, needs_vector=False),
    "dense": ModeSpec(title="meaning, by the vector of each chunk", build=_dense),
    "hybrid": ModeSpec(title="BM25 and vectors, by convex combination", build=_hybrid),
    "rrf": ModeSpec(title="BM25 and vectors, by reciprocal rank fusion", build=_rrf),
    "rank_bm25": ModeSpec(
        title="BM25 in memory by the rank-bm25 package", build=_rank_bm25, needs_vector=False
    ),
}
