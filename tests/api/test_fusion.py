"""Searching with a fusion of one's own, over HTTP."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Service

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"fusion": {"retrievers": ["bm25", "bm25"]}}, "invalid_request"),
    ({"fusion": {"method": "dbsf", "weights": {"other": 1}}}, "invalid_request"),
    ({"fusion": {"method": "magic"}}, "invalid_request"),
    ({"fusion": {"retrievers": ["bm25", "magic"]}}, "invalid_fusion"),
    ({"fusion": {"retrievers": ["fused"]}}, "invalid_fusion"),
    ({"mode": "dense", "fusion": {"retrievers": ["bm25"]}}, "invalid_fusion"),
]


def test_a_fusion_is_searched_with_or_refused(service: Service) -> None:
    service.send("Warm the pot before the leaves go in.", "tea")
    service.send("A job returns to the queue when its lease ends.", "jobs")
    for method in ("rrf", "weighted_rrf", "convex", "min_max", "dbsf"):
        weights = {} if method == "rrf" else {"bm25": 3.0}
        fusion = {"retrievers": ["dense", "bm25"], "method": method, "weights": weights}
        found = service.client.post("/v1/search", json={"query": "warm the pot", "fusion": fusion}).json()
        assert (found["mode"], found["hits"][0]["source"]) == ("fused", "tea")
        assert {"bm25", "dense"} <= set(found["hits"][0]["scores"])

    without_words = {"method": "convex", "weights": {"bm25": 0}}
    for query in ("warm the pot", "lease"):
        assert service.sources(query, fusion=without_words) == service.sources(query, mode="dense")

    for body, code in REFUSED:
        reply = service.client.post("/v1/search", json={"query": "tea", **body})
        assert (reply.status_code, reply.json()["code"]) == (422, code), body
