"""BM25 over two fields: a chunk's text, and the words that it is expanded by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from indexing.found import Found
from indexing.nodes import NodeId
from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from retrievers.hits import to_hits
from retrievers.nodes import Nodes
from retrievers.types import Hit, Query

EXPANSION_WEIGHT = 0.5
"""Measured in docs/manual/35-expansion.md."""

CANDIDATE_K = 100


class ExpandedRetriever:
    """score(d) = BM25(q, text of d) + w · BM25(q, expansion of d); a chunk without expansion has 0 for it.

    Each field has its own statistics, so that words which a model or the neighbours put into many expansions
    weigh little there. The candidates are the best of either field. Gives only chunks that share a term with
    the query in one of them; without expansions it is BM25.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        nodes: Nodes,
        *,
        weight: float = EXPANSION_WEIGHT,
        candidate_k: int = CANDIDATE_K,
    ) -> None:
        self._snapshot = snapshot
        self._nodes = nodes
        self._expansions = nodes.open("expansion")
        self._weight = weight
        self._candidate_k = candidate_k

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [self._retrieve(query, top_k) for query in queries]

    def _retrieve(self, query: Query, top_k: int) -> list[Hit]:
        n_each = max(top_k, self._candidate_k)
        by_text = self._snapshot.lexical.search(
            query.text, n_each, self._snapshot.select(query.allowed_documents)
        )
        by_expansion = self._by_expansion(query, n_each)
        ids = np.concatenate([by_text.chunk_ids, by_expansion.chunk_ids])
        documents = np.concatenate([by_text.document_ids, by_expansion.document_ids])
        chunk_ids, places = np.unique(ids, return_index=True)
        scores = {
            "bm25": self._snapshot.lexical.score(query.text, chunk_ids),
            "expansion": self.expansion_scores(query.text, chunk_ids),
        }
        by = np.asarray(scores["bm25"] + self._weight * scores["expansion"], dtype=np.float32)
        shares = {
            "bm25": scores["bm25"].astype(np.float64),
            "expansion": self._weight * scores["expansion"].astype(np.float64),
        }
        return to_hits(chunk_ids, documents[places], scores, by=by, top_k=top_k, shares=shares)

    def score(self, query: Query, chunk_ids: Ids) -> Floats:
        """The score of every given chunk; raises KeyError for one that is not there."""
        by_text = self._snapshot.lexical.score(query.text, chunk_ids)
        by_expansion = self.expansion_scores(query.text, chunk_ids)
        return np.asarray(by_text + self._weight * by_expansion, dtype=np.float32)

    def expansion_scores(self, text: str, chunk_ids: Ids) -> Floats:
        """BM25 of every given chunk's expansion, 0 for one without; of several, the highest."""
        index = self._expansions
        if index is None:
            return np.zeros(len(chunk_ids), dtype=np.float32)
        heads = self._nodes.heads("expansion", chunk_ids.tolist())
        return best_of_heads(chunk_ids, heads, index, lambda ids: index.lexical.score(text, ids), without=0.0)

    def _by_expansion(self, query: Query, limit: int) -> Found:
        """The chunks whose expansions are the best, as far as the snapshot has them; scores of no account."""
        if self._expansions is None:
            none = np.empty(0, dtype=np.int64)
            return Found(chunk_ids=none, document_ids=none, scores=np.empty(0, dtype=np.float32))
        selection = self._expansions.select(query.allowed_documents)
        found = self._expansions.lexical.search(query.text, limit, selection)
        return chunks_of(self._nodes, self._snapshot, found)


def best_of_heads(
    chunk_ids: Ids,
    heads: Mapping[int, Sequence[NodeId]],
    index: Snapshot,
    score: Callable[[Ids], Floats],
    *,
    without: float,
) -> Floats:
    """The highest score of the nodes about each chunk, as far as the index has them; `without` any."""
    pairs = [
        (place, node_id)
        for place, chunk_id in enumerate(chunk_ids.tolist())
        for node_id in heads.get(chunk_id, ())
    ]
    places = np.array([place for place, _ in pairs], dtype=np.int64)
    node_ids = np.array([node_id for _, node_id in pairs], dtype=np.int64)
    present = index.segments.present(node_ids)
    scores = np.full(len(chunk_ids), without, dtype=np.float32)
    np.maximum.at(scores, places[present], score(node_ids[present]))
    return scores


def chunks_of(nodes: Nodes, snapshot: Snapshot, found: Found) -> Found:
    """The chunk that each node is about, in the same order, where the snapshot has it; a chunk may recur."""
    children = nodes.children(found.chunk_ids.tolist())
    firsts = [children[key][0][:1] for key in found.chunk_ids.tolist()]
    led = np.array([bool(first) for first in firsts], dtype=np.bool_)
    chunk_ids = np.array([first[0] for first in firsts if first], dtype=np.int64)
    present = snapshot.segments.present(chunk_ids)
    return Found(
        chunk_ids=chunk_ids[present],
        document_ids=found.document_ids[led][present],
        scores=found.scores[led][present],
    )
