"""Runs: for each query the documents found, best first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from retrievers.types import Hit

Ranking = list[tuple[str, float]]
"""Document ids with their scores, best first, ties by id."""

Run = Mapping[str, Ranking]
"""Query id → its ranking."""


def rank_documents(hits: Iterable[Hit], names: Mapping[int, str], top_k: int) -> Ranking:
    """The best `top_k` documents; a document's score is that of its best chunk.

    `names` gives each document id its name in the collection.
    """
    best: dict[str, float] = {}
    for hit in hits:
        name = names[hit.document_id]
        best[name] = max(hit.score, best.get(name, hit.score))
    return sorted(best.items(), key=lambda item: (-item[1], item[0]))[:top_k]


def without_own_id(run: Run) -> Run:
    """The run without hits whose document id is the query's own: there the query's text is a document.

    >>> without_own_id({"a": [("a", 2.0), ("b", 1.0)]})
    {'a': [('b', 1.0)]}
    """
    return {
        query_id: [(document_id, score) for document_id, score in ranking if document_id != query_id]
        for query_id, ranking in run.items()
    }
