"""Reranking over HTTP: by a cross-encoder from a folder, and by a language model that is scripted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.settings import LlmSettings, RerankSettings, SearchSettings
from tests.llm_server import LlmServer, Reply
from tests.service import running_service, send_text, work
from tests.unit.retrievers.reranking.tiny_cross_encoder import save_tiny_cross_encoder

TEXTS = ("the red apple", "a red stone", "the red river in the east")


def serving(home: Path, **areas: Any) -> Iterator[TestClient]:
    with running_service(home, f"sqlite:///{home / 'footnote.db'}", **areas) as (client, services):
        for number, text in enumerate(TEXTS):
            send_text(client, text, f"{number}.txt")
        work(services)
        yield client


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[tuple[TestClient, LlmServer]]:
    """A service whose language model is scripted."""
    with LlmServer([Reply()]) as server:
        llm = LlmSettings(base_url=server.base_url, model="scripted")
        for client in serving(tmp_path, llm=llm, rerank=RerankSettings(llm_seconds=3)):
            yield client, server


def search(client: TestClient, **fields: Any) -> dict[str, Any]:
    reply = client.post("/v1/search", json={"query": "red", "top_k": 3, **fields})
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def sources(body: dict[str, Any]) -> list[str]:
    return [hit["source"] for hit in body["hits"]]


def test_a_cross_encoder_in_a_folder_orders_the_hits(tmp_path: Path) -> None:
    model = save_tiny_cross_encoder(tmp_path / "model")
    rerank = RerankSettings(model=str(model), device="cpu", seconds=60)
    named = SearchSettings(reranker="cross_encoder")
    (tmp_path / "home").mkdir()
    for client in serving(tmp_path / "home", rerank=rerank, search=named):
        body = search(client, rerank="cross_encoder")
        scores = [hit["scores"]["rerank"] for hit in body["hits"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert [hit["score"] for hit in body["hits"]] == scores
        assert all(
            0 <= score <= 1 and "bm25" in hit["scores"]
            for score, hit in zip(scores, body["hits"], strict=True)
        )
        assert body["notes"] == []
        assert "rerank" in body["timings_ms"]
        assert sources(search(client, rerank=True)) == sources(body)
        answer = client.post("/v1/answer", json={"query": "red apple", "rerank": True}).json()
        assert all("rerank" in hit["scores"] for hit in answer["hits"])


def test_without_a_model_it_is_told_what_to_set(tmp_path: Path) -> None:
    for client in serving(tmp_path):
        for name, code, setting in (
            ("cross_encoder", "reranker_not_configured", "FOOTNOTE_RERANK_MODEL"),
            ("llm", "llm_not_configured", "FOOTNOTE_LLM_BASE_URL"),
            ("magic", "unknown_reranker", "cross_encoder"),
        ):
            for route, fields in (
                ("search", {}),
                ("search", {"filters": {"nothing": "has this"}}),
                ("answer", {}),
                ("answer", {"stream": True}),
            ):
                reply = client.post(f"/v1/{route}", json={"query": "red", "rerank": name, **fields})
                assert (reply.status_code, reply.json()["code"]) == (422, code)
                assert setting in reply.json()["detail"]


def test_a_model_that_is_not_there_is_a_503(tmp_path: Path) -> None:
    for client in serving(tmp_path, rerank=RerankSettings(model=str(tmp_path / "nothing"))):
        reply = client.post("/v1/search", json={"query": "red", "rerank": "cross_encoder"})
        assert (reply.status_code, reply.json()["code"]) == (503, "encoder_error")


def test_a_language_model_orders_the_hits(asking: tuple[TestClient, LlmServer]) -> None:
    client, server = asking
    former = sources(search(client))
    server.script[:] = [Reply(text="[3] > [1] > [2]")]
    body = search(client, rerank="llm")
    assert sources(body) == [former[2], former[0], former[1]]
    assert [hit["scores"]["rerank"] for hit in body["hits"]] == pytest.approx([1, 2 / 3, 1 / 3])
    assert body["notes"] == []


@pytest.mark.parametrize(
    ("reply", "note"),
    [
        pytest.param(Reply(text="I would rather not."), "no order", id="no order"),
        pytest.param(Reply(status=429, headers={"Retry-After": "60"}), "llm_rate_limited", id="429"),
        pytest.param(Reply(silent_seconds=20), "llm_timeout", id="silent"),
        pytest.param(Reply(body="<html>"), "llm_", id="not json"),
    ],
)
def test_whatever_fails_the_former_order_stays(
    asking: tuple[TestClient, LlmServer], reply: Reply, note: str
) -> None:
    client, server = asking
    former = sources(search(client))
    server.script[:] = [reply]
    body = search(client, rerank="llm")
    assert sources(body) == former
    assert len(body["notes"]) == 1
    assert note in body["notes"][0]


def test_an_order_with_gaps_is_completed(asking: tuple[TestClient, LlmServer]) -> None:
    client, server = asking
    former = sources(search(client))
    server.script[:] = [Reply(text="[2] > [2] > [17]")]
    assert sources(search(client, rerank="llm")) == [former[1], former[0], former[2]]
