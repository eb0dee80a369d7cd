"""Explanations, best sentences and exact phrases over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.search import rerankers
from app.search.rerankers import RerankParts
from retrievers.base import Reranker
from retrievers.types import Passage, Query
from tests.api.conftest import Service
from tests.service import send_text, work

PAGES = {
    "leases.md": "# Leases\n\nThe worker renews the lease. A job returns to the queue when its lease ends.\n",
    "fusion.md": "# Fusion\n\nThe convex combination weighs the dense score by alpha.\n",
    "tea.md": "# Tea\n\nWarm the pot before the leaves go in. Green tea wants cooler water.\n",
    "coffee.md": "# Coffee\n\nGrind the beans at once. The water must not boil.\n",
}


@pytest.fixture
def filled(service: Service) -> Service:
    for source, text in PAGES.items():
        send_text(service.client, text, source, metadata={"first": source[0]})
    work(service.services)
    return service


def search(service: Service, **fields: object) -> dict:
    reply = service.client.post("/v1/search", json=fields)
    assert reply.status_code == 200, reply.text
    return reply.json()


def fate(service: Service, document: str, **fields: object) -> dict:
    reply = service.client.post("/v1/explain", json={"document": document, "top_k": 1, **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()["document"]


def test_an_explained_search_adds_up_in_every_mode(filled: Service) -> None:
    filters = {"first": {"$in": ["l", "t"]}}
    for mode in ("auto", "hybrid", "rrf", "dense", "bm25", "fused", "ngram", "prf", "rm3"):
        body = search(filled, query="the lease of a job", mode=mode, explain=True, filters=filters)
        assert body["explanation"]["filters"] == filters
        assert body["explanation"]["n_allowed_documents"] == 2
        for hit in body["hits"]:
            why = hit["explanation"]
            shares = [place["share"] or 0 for place in why["places"]]
            assert sum(shares) == pytest.approx(hit["score"], rel=1e-4, abs=1e-6), mode
            if mode == "rm3":
                assert sum(why["terms"]["rm3"].values()) == pytest.approx(hit["score"], rel=1e-4)
            tokens = why["alignment"]["tokens"]
            assert [token["token"] for token in tokens] == ["the", "lease", "of", "a", "job"]
            parts = [token["weight"] * token["score"] for token in tokens]
            assert sum(parts) == pytest.approx(why["alignment"]["score"])
            scores = {place["name"]: place["score"] for place in why["places"]}
            if "maxsim" in scores:
                assert sum(token["weight"] for token in tokens) == pytest.approx(1)
                # Those of the index are coded in few bits.
                assert why["alignment"]["score"] == pytest.approx(scores["maxsim"], abs=0.1)
            else:
                assert {token["weight"] for token in tokens} == {1}
            for token in tokens:
                if token["document_start"] is not None:
                    text = hit["text"][token["document_start"] - hit["start"] :]
                    assert text.startswith(token["nearest"])


@pytest.mark.parametrize("rerank", [None, "late"])
def test_a_search_without_hits_is_explained(filled: Service, rerank: str | None) -> None:
    for mode in ("bm25", "rm3", "ngram", "rank_bm25"):
        body = search(filled, query="?! 😀", mode=mode, explain=True, sentences=True, rerank=rerank)
        assert body["hits"] == []
        assert body["explanation"]["mode"] == mode


def test_a_plain_search_explains_nothing(filled: Service) -> None:
    body = search(filled, query="lease")
    assert body["explanation"] is None
    assert all(hit["explanation"] is hit["best_sentence"] is hit["matches"] is None for hit in body["hits"])


def test_the_best_sentence_is_the_one_asked_for(filled: Service) -> None:
    hit = search(filled, query="when does a job return to the queue", sentences=True)["hits"][0]
    sentence = hit["best_sentence"]
    assert sentence["text"] == "A job returns to the queue when its lease ends."
    text = filled.client.get(f"/v1/documents/{hit['document_id']}/text").json()["text"]
    assert text[sentence["start"] : sentence["end"]] == sentence["text"]


def test_a_quoted_phrase_is_found_word_for_word_and_shown(filled: Service) -> None:
    body = search(filled, query='"the pot before" water', mode="ngram")
    (hit,) = body["hits"]
    text = filled.client.get(f"/v1/documents/{hit['document_id']}/text").json()["text"]
    shown = {(match["ngram"], text[match["start"] : match["end"]]) for match in hit["matches"]}
    assert ("the pot before", "the pot before") in shown
    assert ("water", "water") in shown
    assert search(filled, query='"pot the before"', mode="ngram")["hits"] == []


def test_the_fate_of_a_document_is_the_first_reason_that_holds(filled: Service) -> None:
    ask = {"query": "lease of a job", "mode": "hybrid"}
    assert fate(filled, "nowhere.md", **ask)["reason"] == "document_missing"
    assert fate(filled, "f" * 16, **ask)["reason"] == "document_missing"
    assert fate(filled, "\0", **ask)["reason"] == "document_missing"
    found = fate(filled, "leases.md", **ask)
    assert (found["reason"], found["rank"]) == ("returned", 1)
    assert fate(filled, found["document_id"], **ask)["source"] == "leases.md"
    filtered = fate(filled, "tea.md", filters={"first": "l"}, **ask)
    assert filtered["reason"] == "filtered_out"
    beyond = fate(filled, "tea.md", **ask)
    assert beyond["reason"] == "top_k"
    assert beyond["rank"] > 1
    ranks = {place["name"]: place["rank"] for place in beyond["places"]}
    assert ranks["bm25"] is None
    assert ranks["dense"] > 1
    missing = fate(filled, "tea.md", query="lease", mode="bm25")
    assert missing["reason"] == "candidate_depth"


def test_a_document_that_is_not_read_yet_is_not_ready(filled: Service) -> None:
    send_text(filled.client, "# Late\n\nStill to come.\n", "late.md")
    found = fate(filled, "late.md", query="lease")
    assert (found["reason"], found["status"], found["n_chunks"]) == ("document_not_ready", "pending", 0)


class _Backwards:
    """Puts the last first."""

    def rerank(self, query: Query, passages: Sequence[Passage], top_k: int) -> list[Passage]:
        turned = list(reversed(passages))[:top_k]
        return [replace(passage, rank=rank, score=1.0 / rank) for rank, passage in enumerate(turned, start=1)]


def test_what_the_reranker_changed_is_shown(filled: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(parts: RerankParts) -> Reranker:
        return _Backwards()

    monkeypatch.setattr(rerankers, "RERANKERS", {"backwards": build})
    ask = {"query": "lease of a job", "mode": "dense", "rerank": "backwards"}
    hits = search(filled, explain=True, **ask)["hits"]
    changes = [hit["explanation"]["rerank"] for hit in hits]
    assert [change["rank_before"] for change in changes] == [4, 3, 2, 1]
    assert [change["rank"] for change in changes] == [1, 2, 3, 4]
    lost = fate(filled, "leases.md", **ask)
    assert (lost["reason"], lost["rank"], lost["reranked"]) == ("rerank", 1, 4)


def test_a_list_that_had_it_first_and_lost_it_in_fusion_is_named(filled: Service) -> None:
    ask = {"query": "water lease", "mode": "hybrid"}
    first = {mode: filled.sources("water lease", mode=mode)[0] for mode in ("bm25", "dense", "hybrid")}
    lost = {source for source in first.values() if source != first["hybrid"]}
    for source in lost:
        assert fate(filled, source, **ask)["reason"] == "fusion"
    others = set(PAGES) - set(first.values())
    assert all(fate(filled, source, **ask)["reason"] in ("top_k", "candidate_depth") for source in others)
