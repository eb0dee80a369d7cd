"""Index versions over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from app.db import versions
from indexing.errors import EncoderError
from tests.api.conftest import Service
from tests.service import send_text, work
from tests.unit.app import damage
from tests.unit.app.texts import PAGES


@pytest.fixture
def filled(service: Service) -> Service:
    for source, text in PAGES.items():
        send_text(service.client, text, source)
    work(service.services)
    return service


def served(service: Service) -> str:
    shown = service.client.get("/v1/collections/default").json()["index_version"]
    assert isinstance(shown, str)
    return shown


def post(service: Service, path: str, status: int, body: Any = None) -> Any:
    reply = service.client.post(f"/v1/indexes{path}", json=body)
    assert reply.status_code == status, reply.text
    return reply.json()


def finished(service: Service, started: dict[str, Any]) -> dict[str, Any]:
    """The job of an answer, once a worker has done it."""
    work(service.services)
    job: dict[str, Any] = service.client.get(f"/v1/jobs/{started['job']['id']}").json()
    return job


def built(service: Service, **body: Any) -> str:
    job = finished(service, post(service, "", 202, body))
    assert job["status"] == "succeeded", job
    return str(job["result"]["index_version"])


def test_a_version_is_built_as_ordered_beside_the_served_one_and_switched_to(filled: Service) -> None:
    first = served(filled)
    settings = {"chunker.max_tokens": 16, "chunker.overlap_tokens": 0}
    beside = built(filled, settings=settings, activate=False)
    shown = filled.client.get(f"/v1/indexes/{beside}").json()
    assert (shown["status"], shown["active"], shown["error"]) == ("ready", False, None)
    assert (
        shown["chunker_fingerprint"]
        != filled.client.get(f"/v1/indexes/{first}").json()["chunker_fingerprint"]
    )
    assert served(filled) == first
    switched = post(filled, f"/{beside}/activate", 200)
    assert (switched["active"], switched["recall_before"], switched["forced"]) == (True, None, False)
    assert served(filled) == beside
    assert post(filled, "/rollback", 200)["id"] == first == served(filled)
    assert built(filled) == served(filled), "a build is switched to unless it is told not to"


def test_the_same_order_twice_is_one_job_and_another_is_another(filled: Service) -> None:
    first = post(filled, "", 202, {"activate": False})["job"]["id"]
    assert post(filled, "", 202, {"activate": False})["job"]["id"] == first
    assert post(filled, "", 202, {"activate": False, "chunker": "fine"})["job"]["id"] != first


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"settings": {"encoder.sise": 1}}, "unknown_setting"),
        ({"settings": {"encoder.dim": "many"}}, "invalid_setting"),
        ({"settings": {"encoder.dim": [1]}}, "invalid_request"),
        ({"encoder": "a\x00b"}, "invalid_text"),
        ({"encoder": ""}, "invalid_request"),
        ({"chunker": "huge"}, "invalid_request"),
        ({"sise": 1}, "invalid_request"),
    ],
    ids=str,
)
def test_an_order_that_cannot_be_read_is_refused(filled: Service, body: dict[str, Any], code: str) -> None:
    assert post(filled, "", 422, body)["code"] == code


def test_a_version_that_is_not_there(filled: Service) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/activate"),
        ("GET", "/verify"),
        ("POST", "/verify"),
        ("POST", "/repair"),
    ):
        reply = filled.client.request(method, f"/v1/indexes/{'0' * 32}{path}")
        assert (reply.status_code, reply.json()["code"]) == (404, "index_version_not_found"), path
    assert post(filled, "/rollback", 404, {"collection": "nowhere"})["code"] == "collection_not_found"
    assert post(filled, "/rollback", 409)["code"] == "no_previous_version"


def test_versions_are_removed_but_not_the_served_one(filled: Service) -> None:
    first, beside = served(filled), built(filled, activate=False)
    reply = filled.client.delete(f"/v1/indexes/{first}")
    assert (reply.status_code, reply.json()["code"]) == (409, "index_version_active")
    assert filled.client.delete(f"/v1/indexes/{beside}").status_code == 204
    assert filled.client.get(f"/v1/indexes/{beside}").status_code == 404
    others = [built(filled, activate=False) for _ in range(2)]
    assert post(filled, "/prune", 200, {"keep": 0, "dry_run": True})["removed"] == others[::-1]
    assert post(filled, "/prune", 200, {"keep": 0})["removed"] == others[::-1]
    assert [row["id"] for row in filled.client.get("/v1/indexes").json()["data"]] == [first]


def test_damage_is_reported_refused_and_mended(filled: Service) -> None:
    first, beside = served(filled), built(filled, activate=False)
    assert filled.client.get(f"/v1/indexes/{beside}/verify").json() == {
        "version": beside,
        "ok": True,
        "behind": 0,
        "problems": [],
    }
    damage.flipped_byte(filled.services, beside)
    (problem,) = filled.client.get(f"/v1/indexes/{beside}/verify").json()["problems"]
    assert problem["kind"] == "checksum"
    assert post(filled, f"/{beside}/activate", 409)["code"] == "index_version_damaged"
    assert served(filled) == first
    report = finished(filled, post(filled, f"/{beside}/verify", 202, {"vectors": 4, "files": True}))["result"]
    assert [item["kind"] for item in report["problems"]] == ["checksum"]
    done = finished(filled, post(filled, f"/{beside}/repair", 202))["result"]
    assert (done["left"], done["version"]) == ([], beside)
    assert post(filled, f"/{done['replaced_by']}/activate", 200)["active"]


def test_a_build_that_failed_says_why(filled: Service) -> None:
    started = post(filled, "", 202, {"settings": {"chunker.max_tokens": 5000}})
    job = finished(filled, started)
    assert (job["status"], job["error"]["code"]) == ("failed", "chunk_too_long")
    with filled.services.read() as session:
        assert len(versions.list_all(session)) == 1


def test_a_build_with_a_model_that_is_not_here_fails_at_once(
    filled: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = post(filled, "", 202, {"encoder": "no/model"})

    def get(_spec: object) -> None:
        raise EncoderError("The model 'no/model' cannot be loaded.")

    with monkeypatch.context() as patch:
        patch.setattr(filled.services.encoders, "get", get)
        job = finished(filled, started)
    assert (job["status"], job["attempts"], job["error"]["code"]) == ("failed", 1, "encoder_error")


def test_golden_questions_guard_the_switch(filled: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.learning import golden

    first, beside = served(filled), built(filled, activate=False)
    monkeypatch.setattr(golden, "recall", lambda _s, _c, version: 1.0 if version == first else 0.5)
    assert post(filled, f"/{beside}/activate", 409)["code"] == "recall_dropped"
    forced = post(filled, f"/{beside}/activate", 200, {"force": True})
    assert (forced["forced"], forced["recall_before"], forced["recall_after"]) == (True, 1.0, 0.5)


def test_chunks_are_expanded_by_a_job(filled: Service) -> None:
    work(filled.services)
    job = finished(filled, post(filled, "/expand", 202, {"kind": "expansion"}))
    assert (job["status"], job["result"]["model"]) == ("succeeded", "neighbours-10-20")
    assert job["result"]["n_nodes"] == job["result"]["n_chunks"] == len(PAGES)
    body = {"query": "pot", "mode": "expanded"}
    hits = filled.client.post("/v1/search", json=body).json()["hits"]
    assert set(hits[0]["scores"]) == {"bm25", "expansion"}
    assert all(hit["text"] in PAGES[hit["source"]] for hit in hits)
    job = finished(filled, post(filled, "/expand", 202, {"remove": True}))
    assert job["result"] == {"kind": "expansion", "n_removed": len(PAGES)}
    assert post(filled, "/expand", 422, {"kind": "questions"})["code"] == "llm_not_configured"
