"""Retrieval over a tree of summaries, as in RAPTOR (Sarthi et al. 2024, https://arxiv.org/abs/2401.18059,
section 3): collapsed, where summaries of every layer and chunks compete, and by traversal from the top.

A summary is no source: what is found are chunks, to which summaries lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from indexing.found import Found
from indexing.nodes import NO_DOCUMENT
from indexing.segment_set import SegmentSet
from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from retrievers.dense import query_vector
from retrievers.hits import to_hits
from retrievers.hybrid import CANDIDATE_K
from retrievers.nodes import Nodes
from retrievers.types import Hit, Query

NONE: Ids = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeTuning:
    """`budget_tokens` bounds the texts that compete, best first; a summary among them brings its `leaves`
    best chunks and has `weight` in their score. A traversal goes on from the `k` best nodes of a layer, as
    far as the budget holds the summaries of the whole walk."""

    budget_tokens: int = 2000
    leaves: int = 3
    weight: float = 0.5
    k: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What a tree is searched by, of one view of a collection."""

    snapshot: Snapshot
    summaries: Snapshot
    nodes: Nodes
    tuning: TreeTuning


class CollapsedTreeRetriever:
    """All summaries and chunks compete by their cosine, in order until the token budget is used up; what does
    not fit any more is passed over. A summary that was taken brings its best leaves for the query:

        score(chunk) = max(cos(chunk), max over summaries taken: w · cos(summary) + (1 − w) · cos(chunk))

    Chunks that no summary brings keep their cosine. Raises ValueError for a query without a vector.
    """

    def __init__(self, tree: Tree, candidate_k: int = CANDIDATE_K) -> None:
        self._tree = tree
        self._candidate_k = candidate_k

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        vector = query_vector(query)
        snapshot, summaries = self._tree.snapshot, self._tree.summaries
        selection = snapshot.select(query.allowed_documents)
        chunks = snapshot.vectors.search(vector, max(top_k, self._candidate_k), selection)
        nodes = summaries.vectors.search(
            vector, self._candidate_k, summaries.select(_with_none(query.allowed_documents))
        )
        taken = self._within_budget(chunks, nodes)
        brought = self._brought(vector, nodes.chunk_ids[taken], query.allowed_documents)
        ids = np.union1d(chunks.chunk_ids, np.fromiter(brought, dtype=np.int64, count=len(brought)))
        dense = snapshot.vectors.score(vector, ids)
        cosines = dict(zip(nodes.chunk_ids.tolist(), nodes.scores.tolist(), strict=True))
        leads = np.array(
            [max((cosines[key] for key in brought.get(i, ())), default=-1.0) for i in ids.tolist()]
        )
        weight = self._tree.tuning.weight
        lifted = leads > dense
        shares = {
            "dense": np.where(lifted, 1 - weight, 1.0) * dense,
            "node": np.where(lifted, weight, 0.0) * leads,
        }
        by = (shares["dense"] + shares["node"]).astype(np.float32)
        hits = to_hits(
            ids,
            documents_of(snapshot.segments, ids),
            {"dense": dense, "tree": by},
            by=by,
            top_k=top_k,
            shares=shares,
        )
        led = {key: lead for key, lead in zip(ids.tolist(), leads.tolist(), strict=True) if key in brought}
        return [_with_lead(hit, led.get(hit.chunk_id)) for hit in hits]

    def _within_budget(self, chunks: Found, nodes: Found) -> NDArray[np.bool_]:
        """Which of the nodes are taken."""
        sizes = np.concatenate(
            [
                lengths_of(self._tree.snapshot.segments, chunks.chunk_ids),
                lengths_of(self._tree.summaries.segments, nodes.chunk_ids),
            ]
        )
        is_node = np.arange(len(sizes)) >= len(chunks)
        # At the same cosine the chunk first: it is the source.
        order = np.lexsort((is_node, -np.concatenate([chunks.scores, nodes.scores])))
        taken = np.zeros(len(sizes), dtype=np.bool_)
        taken[_fitting(order, sizes, self._tree.tuning.budget_tokens)] = True
        return taken[len(chunks) :]

    def _brought(self, vector: Floats, node_ids: Ids, allowed: Ids | None) -> dict[int, list[int]]:
        """The nodes that bring a chunk, by chunk."""
        leaves = self._tree.nodes.leaves(node_ids.tolist())
        below = _allowed(self._tree.snapshot, np.unique(np.concatenate([NONE, *leaves.values()])), allowed)
        scores = self._tree.snapshot.vectors.score(vector, below)
        brought: dict[int, list[int]] = {}
        for node_id, of_node in leaves.items():
            places = np.flatnonzero(np.isin(below, of_node))
            best = places[np.lexsort((below[places], -scores[places]))][: self._tree.tuning.leaves]
            for key in below[best].tolist():
                brought.setdefault(key, []).append(node_id)
        return brought


class TreeTraversalRetriever:
    """From the top of the tree: the k nodes nearest to the query, of their children the k nearest, and so on,
    until the summaries chosen have used up the token budget, where what does not fit any more is passed over;
    found are the chunks under the nodes that were chosen, by cosine.

    Where that gives too few, k and the budget are doubled; a chunk found so, or at last by no walk at all,
    scores 2 less for every doubling and comes after the others.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        vector, snapshot = query_vector(query), self._tree.snapshot
        roots = self._tree.nodes.roots("summary")
        ids, scores = NONE, np.empty(0, dtype=np.float32)
        tuning = self._tree.tuning
        for turn in range(64):
            reached, is_all = self._walk(vector, roots, tuning.k << turn, tuning.budget_tokens << turn)
            new = np.setdiff1d(_allowed(snapshot, reached, query.allowed_documents), ids)
            ids = np.concatenate([ids, new])
            scores = np.concatenate([scores, snapshot.vectors.score(vector, new) - np.float32(2 * turn)])
            if len(ids) >= top_k or is_all:
                break
        if len(ids) < top_k:
            found = snapshot.vectors.search(
                vector, top_k + len(ids), snapshot.select(query.allowed_documents)
            )
            others = ~np.isin(found.chunk_ids, ids)
            ids = np.concatenate([ids, found.chunk_ids[others]])
            scores = np.concatenate([scores, found.scores[others] - np.float32(2 * turn + 2)])
        dense = snapshot.vectors.score(vector, ids)
        raw = {"dense": dense, "tree_traversal": scores}
        shares = {"dense": dense.astype(np.float64), "doublings": scores.astype(np.float64) - dense}
        return to_hits(ids, documents_of(snapshot.segments, ids), raw, by=scores, top_k=top_k, shares=shares)

    def _walk(self, vector: Floats, roots: Ids, k: int, budget: int) -> tuple[Ids, bool]:
        """The chunks under the chosen nodes, sorted, and whether a wider walk would find no more."""
        segments = self._tree.summaries.segments
        layer, reached, is_all, left = roots, set[int](), True, budget
        while len(layer):
            layer = _present(segments, layer)
            nearest = np.lexsort((layer, -self._tree.summaries.vectors.score(vector, layer)))[:k]
            sizes = lengths_of(segments, layer)
            chosen = _fitting(nearest, sizes, left)
            is_all &= len(chosen) == len(layer) or not budget  # nothing doubled is nothing
            left -= int(sizes[chosen].sum())
            children = self._tree.nodes.children(layer[chosen].tolist())
            reached.update(key for chunks, _ in children.values() for key in chunks)
            below = {key for _, nodes in children.values() for key in nodes}
            layer = np.array(sorted(below), dtype=np.int64)
        return np.array(sorted(reached), dtype=np.int64), is_all


def _fitting(order: NDArray[np.intp], sizes: Ids, budget: int) -> list[int]:
    """The places that are taken one after another; one that does not fit the rest of the budget is not."""
    taken = []
    for place in order.tolist():
        if sizes[place] <= budget:
            budget -= int(sizes[place])
            taken.append(place)
    return taken


def documents_of(segments: SegmentSet, chunk_ids: Ids) -> Ids:
    """The document of each chunk. Raises KeyError for a chunk that is not there."""
    documents = np.empty(len(chunk_ids), dtype=np.int64)
    for segment, positions, rows in segments.located(chunk_ids):
        documents[positions] = segment.document_ids_of(rows)
    return documents


def lengths_of(segments: SegmentSet, chunk_ids: Ids) -> Ids:
    """How many terms each chunk has, which is near enough to its tokens for a budget."""
    lengths = np.empty(len(chunk_ids), dtype=np.int64)
    for segment, positions, rows in segments.located(chunk_ids):
        lengths[positions] = segment.terms.lengths[rows]
    return lengths


def _with_none(allowed: Ids | None) -> Ids | None:
    """The documents whose nodes may be looked at: those allowed, and nodes over several documents."""
    return None if allowed is None else np.union1d(allowed, [NO_DOCUMENT])


def _present(segments: SegmentSet, ids: Ids) -> Ids:
    """Those of the ids that are in the index; the database may be ahead of it."""
    there = np.zeros(len(ids), dtype=np.bool_)
    for segment in segments.segments:
        there |= segment.find(ids) >= 0
    return ids[there]


def _allowed(snapshot: Snapshot, chunk_ids: Ids, allowed: Ids | None) -> Ids:
    """Those of the chunks that are in the index and of a document that is allowed."""
    present = _present(snapshot.segments, chunk_ids)
    if allowed is None:
        return present
    return present[np.isin(documents_of(snapshot.segments, present), allowed)]


def _with_lead(hit: Hit, lead: float | None) -> Hit:
    """The hit with the cosine of the best summary that brought it, `node`; else with no share of one."""
    if lead is None:
        return replace(hit, shares={"dense": hit.score})
    return replace(hit, scores={**hit.scores, "node": lead})
