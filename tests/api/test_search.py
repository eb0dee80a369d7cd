"""Search, answers, jobs, indexes and problems over HTTP."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.conftest import Service
from tests.service import send_text, work

PAGES = {
    "leases.md": "# Leases\n\nA job returns to the queue when its lease ends. The worker renews the lease.\n",
    "fusion.md": "# Fusion\n\nThe convex combination weighs the dense score by alpha.\n",
    "tea.md": "# Tea\n\nWarm the pot before the leaves go in. Green tea wants cooler water.\n",
}


@pytest.fixture
def filled(service: Service) -> Service:
    for source, text in PAGES.items():
        send_text(service.client, text, source, metadata={"length": len(text), "first": source[0]})
    work(service.services)
    return service


@pytest.mark.parametrize("mode", ["auto", "bm25", "dense", "hybrid", "rrf", "rank_bm25", "late"])
def test_each_mode_finds_the_page(filled: Service, mode: str) -> None:
    assert filled.sources("when does the lease end", mode=mode)[0] == "leases.md"


@pytest.mark.parametrize("mode", ["bm25", "dense", "hybrid", "rrf", "rank_bm25", "late"])
def test_a_filter_is_never_ignored(filled: Service, mode: str) -> None:
    assert filled.sources("lease", mode=mode, filters={"first": {"$in": ["f", "t"]}}) != ["leases.md"]
    assert "leases.md" not in filled.sources("lease", mode=mode, filters={"first": {"$ne": "l"}})


def test_the_terms_of_an_explained_hit_add_up_to_its_score(filled: Service) -> None:
    body = {"query": "the lease of a job", "explain": True, "mode": "hybrid"}
    hits = filled.client.post("/v1/search", json=body).json()["hits"]
    for hit in hits:
        terms = hit["explanation"]["bm25_terms"]
        assert sum(terms.values()) == pytest.approx(hit["scores"]["bm25"], rel=1e-5)
    assert {"leas", "job"} <= set(hits[0]["explanation"]["bm25_terms"])


def test_five_hits_are_the_first_of_ten(filled: Service) -> None:
    ten = filled.sources("the", top_k=10)
    assert filled.sources("the", top_k=2) == ten[:2]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"query": ""}, 422, "invalid_request"),
        ({"query": "x", "top_k": 0}, 422, "invalid_request"),
        ({"query": "x", "mode": "magic"}, 422, "invalid_request"),
        ({"query": "x", "collection": "nowhere"}, 404, "collection_not_found"),
        ({"query": "x", "filters": {"year": {"$near": 1}}}, 422, "invalid_filter"),
        ({"query": "x", "rerank": True}, 422, "reranker_not_configured"),
    ],
)
def test_a_search_that_cannot_be_done_says_why(service: Service, body: dict, status: int, code: str) -> None:
    reply = service.client.post("/v1/search", json=body)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def test_an_empty_collection_gives_no_hits_and_an_abstention(service: Service) -> None:
    assert service.sources("anything") == []
    answer = service.client.post("/v1/answer", json={"query": "anything"}).json()
    assert (answer["abstained"], answer["reason"], answer["answer"]) == (True, "no_passages", "")


def test_every_citation_is_the_exact_characters_of_its_source(filled: Service) -> None:
    answer = filled.client.post("/v1/answer", json={"query": "when does a job return to the queue"}).json()
    assert not answer["abstained"]
    assert answer["citations"]
    for citation in answer["citations"]:
        text = filled.client.get(f"/v1/documents/{citation['document_id']}/text").json()["text"]
        assert text[citation["start"] : citation["end"]] == citation["quote"]
    for claim in answer["claims"]:
        assert answer["answer"][claim["start"] : claim["end"]] == claim["text"]
        assert claim["citations"]
    assert 0 <= answer["confidence"] <= 1


def test_a_streamed_answer_is_the_whole_one_in_parts(filled: Service) -> None:
    query = {"query": "when does a job return to the queue"}
    whole = filled.client.post("/v1/answer", json=query).json()
    events = []
    with filled.client.stream("POST", "/v1/answer", json={**query, "stream": True}) as reply:
        name = ""
        for line in reply.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    assert (events[0][0], events[-1][0]) == ("hits", "done")
    assert "".join(data["text"] for name, data in events if name == "delta") == whole["answer"]
    done = dict(events)["done"]
    assert {key: done[key] for key in ("answer", "claims", "citations")} == {
        key: whole[key] for key in ("answer", "claims", "citations")
    }


def test_a_language_model_that_is_not_set_up_is_refused_by_name(filled: Service) -> None:
    for stream in (False, True):
        reply = filled.client.post("/v1/answer", json={"query": "x", "generator": "llm", "stream": stream})
        assert (reply.status_code, reply.json()["code"]) == (422, "llm_not_configured")


def test_collections_are_apart(service: Service) -> None:
    assert service.client.post("/v1/collections", json={"name": "other"}).status_code == 201
    assert (
        service.client.post("/v1/collections", json={"name": "other"}).json()["code"] == "collection_exists"
    )
    service.send(PAGES["tea.md"], "tea.md", collection="other")
    assert service.sources("pot") == []
    assert service.sources("pot", collection="other") == ["tea.md"]
    listed = {row["name"]: row["n_documents"] for row in service.client.get("/v1/collections").json()["data"]}
    assert listed == {"default": 0, "other": 1}
    assert service.client.delete("/v1/collections/other").json()["removed"]["documents"] == 1
    assert service.client.get("/v1/collections/other").status_code == 404
    assert service.client.delete("/v1/collections/default").json()["code"] == "collection_in_use"


def test_a_job_can_be_followed_cancelled_and_retried(service: Service) -> None:
    job = send_text(service.client, PAGES["tea.md"], "tea.md")["job"]
    cancelled = service.client.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert cancelled["status"] == "cancelled"
    work(service.services)
    assert service.sources("pot") == []
    assert service.client.post(f"/v1/jobs/{job['id']}/retry").json()["status"] == "todo"
    work(service.services)
    assert service.sources("pot") == ["tea.md"]
    events = service.client.get(f"/v1/jobs/{job['id']}/events").text
    assert '"status":"succeeded"' in events
    assert service.client.post(f"/v1/jobs/{job['id']}/retry").json()["code"] == "job_not_retryable"
    assert service.client.get("/v1/jobs/nope").json()["code"] == "job_not_found"


def test_a_version_is_built_beside_switched_to_and_left_again(filled: Service) -> None:
    client = filled.client
    before = client.get("/v1/indexes").json()["data"]
    assert [row["active"] for row in before] == [True]
    reply = client.post("/v1/indexes", json={"collection": "default", "activate": False})
    assert reply.status_code == 202
    work(filled.services)
    rows = {row["id"]: row for row in client.get("/v1/indexes").json()["data"]}
    new = next(row for key, row in rows.items() if key != before[0]["id"])
    assert (new["status"], new["active"], new["n_chunks"]) == ("ready", False, before[0]["n_chunks"])
    filled.send("# Late\n\nA late arrival.\n", "late.md")
    assert client.post(f"/v1/indexes/{new['id']}/activate").json()["active"]
    assert filled.sources("late arrival")[0] == "late.md", "the version caught up before it was served"
    body = client.post("/v1/search", json={"query": "lease"}).json()
    assert body["index_version"] == new["id"]


def test_searches_run_while_documents_come_and_go(filled: Service) -> None:
    stop = threading.Event()
    statuses: list[int] = []

    def search() -> None:
        while not stop.is_set():
            reply = filled.client.post("/v1/search", json={"query": "lease", "top_k": 1})
            statuses.append(reply.status_code)
            assert [hit["source"] for hit in reply.json()["hits"]] == ["leases.md"]

    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(search) for _ in range(2)]
        for n in range(4):
            document = filled.send(f"# Note {n}\n\nNothing of interest.\n", f"note-{n}.md")
            filled.client.delete(f"/v1/documents/{document['id']}")
        stop.set()
        for future in futures:
            future.result()
    assert set(statuses) == {200}


def test_health_metrics_page_and_description(filled: Service) -> None:
    client = filled.client
    assert client.get("/health/live").json()["status"] == "ok"
    assert client.get("/health/ready").json()["checks"] == {"database": "ok", "encoder": "ok"}
    metrics = client.get("/metrics").text
    assert 'footnote_documents{status="ready"} 3' in metrics
    assert 'footnote_jobs{kind="ingest",status="succeeded"} 3' in metrics
    assert "<title>Footnote</title>" in client.get("/").text
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/documents", "/v1/search", "/v1/answer", "/v1/indexes", "/v1/jobs/{job_id}/events"} <= set(
        paths
    )
    assert client.get("/nowhere").json()["code"] == "route_not_found"
    assert client.put("/v1/search").json()["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "params",
    [
        {"filters": "[" * 5000},
        {"filters": '{"\\ud800": 1}'},
        {"cursor": base64.urlsafe_b64encode(b"[" * 5000).decode()},
        {"cursor": "%00"},
    ],
    ids=["deep filter", "half a surrogate", "deep cursor", "odd cursor"],
)
def test_odd_parameters_are_the_clients_fault(service: Service, params: dict) -> None:
    reply = service.client.get("/v1/documents", params=params)
    assert reply.status_code == 422
    assert reply.json()["code"] in ("invalid_filter", "invalid_cursor", "invalid_metadata", "invalid_text")
