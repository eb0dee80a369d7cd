"""Tuning and diagnosis over HTTP."""

from __future__ import annotations

from tests.api.conftest import Service
from tests.service import work


def test_a_collection_is_tuned_by_a_job_and_questions_are_diagnosed(service: Service) -> None:
    service.send("A lease lasts thirty seconds.", "leases.md")
    address = "/v1/collections/default"
    refused = service.client.post(f"{address}/tune")
    assert (refused.status_code, refused.json()["code"]) == (422, "no_questions")
    expected = [{"source": "leases.md"}]
    service.client.post("/v1/golden", json={"question": "how long is a lease", "expected": expected})
    reply = service.client.post(f"{address}/tune", json={"mode": "hybrid"})
    assert reply.status_code == 202, reply.text
    work(service.services)
    job = service.client.get(f"/v1/jobs/{reply.json()['job']['id']}").json()
    assert job["status"] == "succeeded", job
    assert job["result"]["decision"]["verdict"] == "too_few_questions"
    nothing = {"values": {}, "evidence": None, "created_at": None}
    assert service.client.get(f"{address}/tuning").json() == nothing
    assert service.client.delete(f"{address}/tuning").json() == {"reset": False}
    fusion = {"retrievers": ["bm25", "dense"], "method": "convex"}
    reply = service.client.post(f"{address}/tune", json={"fusion": fusion})
    assert reply.status_code == 202, reply.text
    work(service.services)
    job = service.client.get(f"/v1/jobs/{reply.json()['job']['id']}").json()
    assert job["status"] == "succeeded", job
    assert set(job["result"]["decision"]["chosen"]) == {"bm25", "dense"}
    strange = service.client.post(f"{address}/tune", json={"fusion": fusion, "mode": "hybrid"})
    assert (strange.status_code, strange.json()["code"]) == (422, "invalid_fusion")
    refused = service.client.post(f"{address}/tune", json={"mode": "bm25"})
    assert (refused.status_code, refused.json()["code"]) == (422, "nothing_to_tune")

    questions = [
        {"question": "how long is a lease", "answers": ["thirty seconds"]},
        {"question": "who paints", "answers": ["purple elephants"]},
    ]
    found = service.client.post("/v1/diagnose", json={"questions": questions, "only_search": True}).json()
    assert [item["cause"] for item in found["questions"]] == [None, "FP1"]
    assert (found["n_right"], found["counts"]["FP1"]) == (1, 1)
    for bad in ({"question": "a"}, {"question": "a", "answers": ["b"], "format": "poem"}):
        reply = service.client.post("/v1/diagnose", json={"questions": [bad]})
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_questions_file")
