"""Tagging documents over HTTP, without and with a language model."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import LlmSettings
from tests.api.conftest import Service
from tests.llm_server import LlmServer, Reply, Request
from tests.service import running_service, send_text, work

PAGES = {
    "green.md": "# Tea\n\nGreen tea leaves want cool water. Black tea wants boiling water.",
    "leases.md": "The worker renews the lease of its job. The queue of jobs gives it back.",
    "empty.md": "zzz",
}
LABELS = ["tea leaves", {"name": "jobs", "description": "the queue of a worker"}, "bridges"]


@pytest.fixture
def filled(service: Service) -> Service:
    for source, text in PAGES.items():
        send_text(service.client, text, source)
    work(service.services)
    return service


def tags(service: Service, **body: object) -> dict:
    reply = service.client.post("/v1/tags", json={"labels": LABELS, "threshold": 0.3, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


def by_source(body: dict) -> dict[str, list[str]]:
    return {item["source"]: [label["label"] for label in item["labels"]] for item in body["data"]}


def metadata(service: Service) -> dict[str, dict]:
    return {row["source"]: row["metadata"] for row in service.client.get("/v1/documents").json()["data"]}


def test_documents_get_labels_of_the_list_and_nothing_is_written(filled: Service) -> None:
    found = by_source(tags(filled))
    assert found == {"green.md": ["tea leaves"], "leases.md": ["jobs"], "empty.md": []}
    assert all(meta == {} for meta in metadata(filled).values())


def test_labels_are_written_where_that_is_asked_for_and_can_be_filtered_by(filled: Service) -> None:
    body = tags(filled, write="topics")
    assert [item["written"] for item in body["data"]] == [True, True, False]
    assert metadata(filled)["green.md"] == {"topics": ["tea leaves"]}
    assert "topics" not in metadata(filled)["empty.md"]
    assert filled.sources("water", filters={"topics": "tea leaves"}) == ["green.md"]
    assert by_source(tags(filled, filters={"topics": "jobs"})) == {"leases.md": ["jobs"]}


def test_pages_of_documents_follow_each_other(filled: Service) -> None:
    first = tags(filled, limit=2)
    second = tags(filled, limit=2, cursor=first["next_cursor"])
    assert len(first["data"]) == 2
    assert {**by_source(first), **by_source(second)} == by_source(tags(filled))
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"labels": []}, 422, "invalid_request"),
        ({"labels": ["tea", "tea"]}, 422, "invalid_labels"),
        ({"labels": ["tea"], "collection": "nowhere"}, 404, "collection_not_found"),
        ({"labels": ["tea"], "filters": {"a": {"$near": 1}}}, 422, "invalid_filter"),
        ({"labels": ["tea"], "cursor": "%00"}, 422, "invalid_cursor"),
    ],
)
def test_tags_that_cannot_be_given(filled: Service, body: dict, status: int, code: str) -> None:
    reply = filled.client.post("/v1/tags", json=body)
    assert (reply.status_code, reply.json()["code"]) == (status, code)


def test_a_collection_without_an_index_says_so(service: Service) -> None:
    reply = service.client.post("/v1/tags", json={"labels": ["tea"]})
    assert (reply.status_code, reply.json()["code"]) == (422, "collection_not_indexed")


def test_a_language_model_infers_and_chooses_but_makes_up_no_label(tmp_path: Path, database_url: str) -> None:
    replies = [Reply(text="- brewing\n- water"), Reply(text="1. Bridges\n- lighthouses\ntea leaves")]
    with LlmServer(replies) as server:
        llm = LlmSettings(base_url=server.base_url, model="test")
        with running_service(tmp_path / "home", database_url, llm=llm) as (client, services):
            send_text(client, PAGES["green.md"], "green.md")
            work(services)
            body = tags(Service(client, services))
        assert by_source(body) == {"green.md": ["bridges", "tea leaves"]}
        assert body["data"][0]["note"] is None
        assert "cool water" in server.requests[0].user


def test_a_label_may_begin_with_a_digit_and_differ_in_case_alone(tmp_path: Path, database_url: str) -> None:
    replies = [Reply(text="- brewing"), Reply(text="3D printing\n- TEA\n2) 2024")]
    with LlmServer(replies) as server:
        llm = LlmSettings(base_url=server.base_url, model="test")
        with running_service(tmp_path / "home", database_url, llm=llm) as (client, services):
            send_text(client, PAGES["green.md"], "green.md")
            work(services)
            body = tags(Service(client, services), labels=["tea", "TEA", "3D printing", "2024"])
    assert by_source(body) == {"green.md": ["3D printing", "TEA", "2024"]}


def test_a_document_that_is_deleted_meanwhile_gets_no_label(tmp_path: Path, database_url: str) -> None:
    with LlmServer([Reply(text="tea leaves")]) as server:
        llm = LlmSettings(base_url=server.base_url, model="test")
        with running_service(tmp_path / "home", database_url, llm=llm) as (client, services):
            document = send_text(client, PAGES["green.md"], "green.md")["document"]["id"]
            work(services)
            answers = server.take

            def take(request: Request) -> Reply:
                client.delete(f"/v1/documents/{document}")
                return answers(request)

            server.take = take  # type: ignore[method-assign]
            body = tags(Service(client, services), write="topics")
    assert [item["written"] for item in body["data"]] == [False]


def test_without_its_language_model_a_document_is_tagged_all_the_same(
    tmp_path: Path, database_url: str
) -> None:
    with LlmServer([Reply(status=400, body="{}")]) as server:
        llm = LlmSettings(base_url=server.base_url, model="test")
        with running_service(tmp_path / "home", database_url, llm=llm) as (client, services):
            send_text(client, PAGES["green.md"], "green.md")
            work(services)
            body = tags(Service(client, services))
    assert by_source(body) == {"green.md": ["tea leaves"]}
    assert body["data"][0]["note"].startswith("Terms without the language model")
