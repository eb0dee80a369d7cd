"""The modes of retrieval: for each its name, what it needs, and how its retriever is made.

The one list that the service, the commands and the evaluation choose from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from indexing.encoding.sparse import SparseEncoder
from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from retrievers.base import Retriever
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever, query_vector
from retrievers.ensemble import BEYOND, MAXSIM_WEIGHT, EnsembleRetriever, EnsembleSpec
from retrievers.errors import ModeUnavailable
from retrievers.expanded import ExpandedRetriever
from retrievers.funnel import FIRST_DIM, FunnelRetriever, FunnelSteps
from retrievers.fused import FusedRetriever, FusionSpec, Part
from retrievers.fusion import ALPHA, RRF_K
from retrievers.hybrid import CANDIDATE_K, HybridRetriever
from retrievers.late_interaction import LateInteractionRetriever, query_tokens
from retrievers.ngram import NgramRetriever
from retrievers.nodes import NO_NODES, Nodes
from retrievers.prf import PrfRetriever
from retrievers.questions import QuestionsRetriever
from retrievers.rm3 import Rm3Retriever
from retrievers.sparse import SparseRetriever
from retrievers.tree import CollapsedTreeRetriever, Tree, TreeTraversalRetriever, TreeTuning
from retrievers.types import Mode, Query, Texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What can be set of retrieval; `candidate_k` is how many chunks each retriever gives to fusion.

    `fusion` is what the mode `fused` fuses where none is named.
    """

    alpha: float = ALPHA
    rrf_k: int = RRF_K
    candidate_k: int = CANDIDATE_K
    funnel_dim: int = FIRST_DIM
    funnel_steps: FunnelSteps = "two"
    tree: TreeTuning = field(default_factory=TreeTuning)
    maxsim_weight: float = MAXSIM_WEIGHT
    fusion: FusionSpec = field(default_factory=FusionSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What retrievers are made of; everything belongs to one immutable view of a collection."""

    snapshot: Snapshot
    texts: Texts
    rank_bm25: Callable[[], Retriever]
    tuning: Tuning = field(default_factory=Tuning)
    nodes: Nodes = NO_NODES
    sparse: Callable[[], SparseEncoder | None] = lambda: None
    """The encoder of the version's sparse vectors; None where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeSpec:
    """`title` is one line for people. The query's vector and its token vectors are made where needed.

    For fusion by scores: `infimum` is the lowest score that a query can get, `score` gives that of any chunk.
    """

    title: str
    build: Callable[[Resources], Retriever]
    needs_vector: bool = True
    needs_tokens: bool = False
    infimum: Callable[[Query], float] = lambda _query: 0.0
    score: Callable[[Resources, Query, Ids], Floats] | None = None


def _bm25(resources: Resources) -> Retriever:
    return Bm25Retriever(resources.snapshot)


def _rank_bm25(resources: Resources) -> Retriever:
    return resources.rank_bm25()


def _dense(resources: Resources) -> Retriever:
    return DenseRetriever(resources.snapshot)


def _bm25_scores(resources: Resources, query: Query, chunk_ids: Ids) -> Floats:
    return resources.snapshot.lexical.score(query.text, chunk_ids)


def _dense_scores(resources: Resources, query: Query, chunk_ids: Ids) -> Floats:
    return resources.snapshot.vectors.score(query_vector(query), chunk_ids)


def _auto(resources: Resources) -> Retriever:
    tuning = resources.tuning
    spec = EnsembleSpec(
        alpha=tuning.alpha, maxsim_weight=tuning.maxsim_weight, candidate_k=tuning.candidate_k
    )
    return EnsembleRetriever(resources.snapshot, spec)


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


def _funnel(resources: Resources) -> Retriever:
    tuning = resources.tuning
    return FunnelRetriever(
        resources.snapshot,
        first_dim=tuning.funnel_dim,
        steps=tuning.funnel_steps,
        candidate_k=tuning.candidate_k,
    )


def sparse_retriever(resources: Resources) -> SparseRetriever:
    """Raises ModeUnavailable where the version has no sparse vectors."""
    encoder = resources.sparse()
    if encoder is None:
        raise ModeUnavailable(
            "This index version has no learned sparse vectors. Set FOOTNOTE_SPARSE_MODEL to the name or "
            "folder of a SparseEncoder model of sentence-transformers, then run `footnote index build`."
        )
    return SparseRetriever(resources.snapshot, encoder)


def _sparse_scores(resources: Resources, query: Query, chunk_ids: Ids) -> Floats:
    return sparse_retriever(resources).score(query, chunk_ids)


def _tree(resources: Resources) -> Tree:
    summaries = resources.nodes.open("summary")
    if summaries is None:
        raise ModeUnavailable(
            "The collection has no tree of summaries. Run `footnote tree build`; over very few chunks it "
            "grows none."
        )
    return Tree(
        snapshot=resources.snapshot,
        summaries=summaries,
        nodes=resources.nodes,
        tuning=resources.tuning.tree,
    )


def _expanded(resources: Resources) -> ExpandedRetriever:
    if resources.nodes.open("expansion") is None:
        raise ModeUnavailable(
            "The chunks of this collection are not expanded. Run `footnote expand --kind expansion`."
        )
    return ExpandedRetriever(resources.snapshot, resources.nodes, candidate_k=resources.tuning.candidate_k)


def _questions(resources: Resources) -> QuestionsRetriever:
    if resources.nodes.open("question") is None:
        raise ModeUnavailable(
            "There are no questions about the chunks of this collection. Set a language model, then run "
            "`footnote expand --kind questions`."
        )
    return QuestionsRetriever(resources.snapshot, resources.nodes)


MODES: Mapping[Mode, ModeSpec] = {
    "auto": ModeSpec(
        title="the default: BM25, vectors and token vectors in one score, smoothed over like chunks",
        build=_auto,
        needs_tokens=True,
        infimum=lambda _query: BEYOND,
    ),
    "bm25": ModeSpec(
        title="words, by BM25 over the inverted index", build=_bm25, needs_vector=False, score=_bm25_scores
    ),
    "dense": ModeSpec(
        title="meaning, by the vector of each chunk",
        build=_dense,
        infimum=lambda _query: -1.0,
        score=_dense_scores,
    ),
    "hybrid": ModeSpec(title="BM25 and vectors, by convex combination", build=_hybrid),
    "rrf": ModeSpec(title="BM25 and vectors, by reciprocal rank fusion", build=_rrf),
    "prf": ModeSpec(
        title="meaning, after the best chunks have turned the query towards themselves",
        build=lambda it: PrfRetriever(it.snapshot),
        infimum=lambda _query: -1.0,
    ),
    "rm3": ModeSpec(
        title="words, by BM25 with terms that the best chunks add",
        build=lambda it: Rm3Retriever(it.snapshot),
        needs_vector=False,
    ),
    "rank_bm25": ModeSpec(
        title="BM25 in memory by the rank-bm25 package", build=_rank_bm25, needs_vector=False
    ),
    "late": ModeSpec(
        title="tokens, by MaxSim over the token vectors of each chunk",
        build=lambda it: LateInteractionRetriever(it.snapshot),
        needs_tokens=True,
        infimum=lambda query: -float(len(query_tokens(query).vectors)),
        score=lambda it, query, chunk_ids: LateInteractionRetriever(it.snapshot).score(query, chunk_ids),
    ),
    "fused": ModeSpec(
        title="any retrievers that are named, fused as is said", build=lambda it: _fused(it, it.tuning.fusion)
    ),
    "funnel": ModeSpec(
        title="meaning, by the first dimensions and then by the whole vectors",
        build=_funnel,
        infimum=lambda _query: -1.0,
        score=_dense_scores,
    ),
    "sparse": ModeSpec(
        title="terms that a model weighs, by learned sparse vectors",
        build=sparse_retriever,
        needs_vector=False,
        score=_sparse_scores,
    ),
    "tree": ModeSpec(
        title="chunks, and summaries that lead to chunks, by vector",
        build=lambda it: CollapsedTreeRetriever(_tree(it), it.tuning.candidate_k),
        infimum=lambda _query: -1.0,
    ),
    "tree_traversal": ModeSpec(
        title="from the top of the tree of summaries down to chunks, by vector",
        build=lambda it: TreeTraversalRetriever(_tree(it)),
        # What a walk found only when it was widened lies below, and counts as what it did not find.
        infimum=lambda _query: -1.0,
    ),
    "expanded": ModeSpec(
        title="words, by BM25 over each chunk's text and the words it is expanded by",
        build=_expanded,
        needs_vector=False,
        score=lambda it, query, chunk_ids: _expanded(it).score(query, chunk_ids),
    ),
    "questions": ModeSpec(
        title="meaning, by the vectors of each chunk and of the questions it answers",
        build=_questions,
        infimum=lambda _query: -1.0,
        score=lambda it, query, chunk_ids: _questions(it).score(query, chunk_ids),
    ),
    "ngram": ModeSpec(
        title="exact phrases and distinctive n-grams, word for word",
        build=lambda it: NgramRetriever(it.snapshot, it.texts),
        needs_vector=False,
    ),
}


def mode_spec(mode: Mode, fusion: FusionSpec | None = None) -> ModeSpec:
    """How a mode is made; `fusion` says what the mode `fused` fuses, by default BM25 and vectors by rank.

    Raises ValueError where another mode is given a fusion, or the fusion names what is no mode or itself one.
    """
    if fusion is None:
        return MODES[mode]
    if mode != "fused":
        raise ValueError(f"The mode {mode} fuses nothing that could be chosen: take the mode fused.")
    for name in fusion.retrievers:
        if name not in MODES or name == "fused":
            known = ", ".join(known for known in MODES if known != "fused")
            raise ValueError(f"{name!r} cannot be fused: {known}.")
    parts = [MODES[cast(Mode, name)] for name in fusion.retrievers]
    return replace(
        MODES["fused"],
        build=lambda resources: _fused(resources, fusion),
        needs_vector=any(part.needs_vector for part in parts),
        needs_tokens=any(part.needs_tokens for part in parts),
    )


def _fused(resources: Resources, fusion: FusionSpec) -> Retriever:
    return FusedRetriever(fused_parts(resources, fusion), fusion, candidate_k=resources.tuning.candidate_k)


def fused_parts(resources: Resources, fusion: FusionSpec) -> dict[str, Part]:
    """What a fusion fuses, by name."""
    return {name: _part(resources, MODES[cast(Mode, name)]) for name in fusion.retrievers}


def _part(resources: Resources, spec: ModeSpec) -> Part:
    score = spec.score
    return Part(
        retriever=spec.build(resources),
        infimum=spec.infimum,
        score=None if score is None else lambda query, chunk_ids: score(resources, query, chunk_ids),
    )
