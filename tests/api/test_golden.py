"""Golden questions over HTTP, on each database."""

from __future__ import annotations

import pytest

from tests.api.conftest import Service

TEXT = "# Leases\n\nA job returns to the queue when its lease ends."


def test_questions_are_kept_asked_and_removed(service: Service) -> None:
    document = service.send(TEXT, "leases.md")
    body = {
        "question": "when does a lease end",
        "expected": [{"source": document["id"]}, {"source": "leases.md", "quote": "A job returns"}],
    }
    reply = service.client.post("/v1/golden", json=body)
    assert reply.status_code == 201, reply.text
    kept = reply.json()
    assert kept["expected"] == [
        {"source": "leases.md", "quote": None},
        {"source": "leases.md", "quote": "A job returns"},
    ]
    assert service.client.post("/v1/golden", json=body).json() == kept
    assert service.client.get("/v1/golden").json() == {"data": [kept], "next_cursor": None}

    run = service.client.post("/v1/golden/run", json={"mode": "bm25"}).json()
    assert (run["n_questions"], run["n_stale"], run["mode"]) == (1, 0, "bm25")
    assert run["recall"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert [item["rank"] for item in run["questions"][0]["expected"]] == [1, 1]
    version = {"index_version": run["index_version"], "top_k": 1}
    assert service.client.post("/v1/golden/run", json=version).json()["recall"]["mean"] == 1.0

    service.client.delete(f"/v1/documents/{document['id']}")
    stale = service.client.post("/v1/golden/run", json={}).json()
    assert (stale["n_questions"], stale["n_stale"], stale["recall"]) == (0, 1, None)
    assert stale["questions"][0]["expected"][0]["stale"] == "document_missing"

    removed = service.client.delete(f"/v1/golden/{kept['id']}")
    assert removed.json() == {"id": kept["id"], "deleted": True}
    assert service.client.delete(f"/v1/golden/{kept['id']}").json()["code"] == "golden_question_not_found"
    assert service.client.get("/v1/golden").json() == {"data": [], "next_cursor": None}


def test_questions_go_with_their_collection(service: Service) -> None:
    service.client.post("/v1/collections", json={"name": "other"})
    service.send(TEXT, "leases.md", collection="other")
    body = {"question": "lease", "collection": "other", "expected": [{"source": "leases.md"}]}
    kept = service.client.post("/v1/golden", json=body).json()
    assert service.client.get("/v1/golden").json() == {"data": [], "next_cursor": None}
    service.client.delete("/v1/collections/other")
    assert service.client.delete(f"/v1/golden/{kept['id']}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("", {"question": "q", "expected": [{"source": "no.md"}]}, 404, "document_not_found"),
        ("", {"question": "q", "expected": [{"source": "a.md", "quote": "b"}]}, 422, "quote_not_found"),
        ("", {"question": "  ", "expected": [{"source": "a.md"}]}, 422, "invalid_request"),
        ("", {"question": "q", "expected": []}, 422, "invalid_request"),
        ("", {"question": "a\0", "expected": [{"source": "a.md"}]}, 422, "invalid_text"),
        (
            "",
            {"question": "q", "collection": "no", "expected": [{"source": "a"}]},
            404,
            "collection_not_found",
        ),
        ("/run", {"collection": "no"}, 404, "collection_not_found"),
        ("/run", {"index_version": "no"}, 404, "index_version_not_found"),
        ("/run", {"mode": "magic"}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_done_says_why(
    service: Service, path: str, body: dict, status: int, code: str
) -> None:
    service.send("warm the pot", "a.md")
    if path == "/run":
        service.client.post("/v1/golden", json={"question": "pot", "expected": [{"source": "a.md"}]})
    reply = service.client.post(f"/v1/golden{path}", json=body)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
