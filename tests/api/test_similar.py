"""Set operations over HTTP."""

from __future__ import annotations

import pytest

from tests.api.conftest import Service
from tests.service import send_text, work

PAGES = {
    "green.md": "Green tea leaves in cool water.",
    "black.md": "Black tea leaves in boiling water.",
    "beans.md": "Coffee beans in boiling water.",
    "leases.md": "The worker renews the lease of its job.",
}


@pytest.fixture
def filled(service: Service) -> Service:
    for source, text in PAGES.items():
        send_text(service.client, text, source, metadata={"drink": source != "leases.md"})
    work(service.services)
    return service


def similar(service: Service, **body: object) -> dict:
    reply = service.client.post("/v1/similar", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def sources(service: Service, **body: object) -> list[str]:
    return [hit["source"] for hit in similar(service, **body)["hits"]]


def test_like_these_and_those_but_not_these(filled: Service) -> None:
    assert sources(filled, like=[["tea leaves"], ["boiling water"]])[0] == "black.md"
    assert sources(filled, like=[["boiling water"]], unlike=[["tea leaves"]])[0] == "beans.md"
    body = similar(filled, like=[["tea"]], unlike=[["boiling"]])
    for hit in body["hits"]:
        assert sum(hit["scores"].values()) == pytest.approx(hit["score"], abs=1e-5)
        assert set(hit["scores"]) == {"like 1", "unlike 1"}


def test_what_was_named_is_no_result_unless_asked_for(filled: Service) -> None:
    found = similar(filled, like=[["green.md"]], by="documents")
    assert [hit["source"] for hit in found["hits"]][:1] == ["black.md"]
    assert "green.md" not in [hit["source"] for hit in found["hits"]]
    assert [(item["name"], item["kind"]) for item in found["items"]] == [("green.md", "document")]
    key = found["items"][0]["id"]
    assert sources(filled, like=[[key]], by="documents", include_given=True)[0] == "green.md"
    chunk = filled.client.get(f"/v1/documents/{key}/chunks").json()["data"][0]["chunk_id"]
    assert "green.md" not in sources(filled, like=[[chunk]])
    assert sources(filled, like=[[chunk]], include_given=True)[0] == "green.md"


def test_a_filter_holds(filled: Service) -> None:
    assert sources(filled, like=[["tea"]], filters={"drink": False}) == ["leases.md"]
    assert sources(filled, like=[["tea"]], filters={"drink": 7}) == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_sets"),
        ({"like": [["  "]]}, 422, "invalid_sets"),
        ({"like": [[]]}, 422, "invalid_request"),
        ({"like": [["7" * 16]]}, 404, "item_not_found"),
        ({"like": [["x"]], "collection": "nowhere"}, 404, "collection_not_found"),
    ],
)
def test_sets_that_cannot_be_searched_for(service: Service, body: dict, status: int, code: str) -> None:
    reply = service.client.post("/v1/similar", json=body)
    assert (reply.status_code, reply.json()["code"]) == (status, code)


def test_an_empty_collection_has_nothing_similar(service: Service) -> None:
    assert similar(service, like=[["tea"]])["hits"] == []
