"""Trees over HTTP: asked for, looked at, searched, removed; with summaries by a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.db import collections
from app.nodes import trees
from app.settings import LlmSettings
from indexing.errors import LanguageModelError
from tests.api.conftest import Service
from tests.llm_server import LlmServer, Reply
from tests.service import running_service, send_text, work
from tests.unit.app.test_trees import TOPICS, kept, page

TREE = "/v1/collections/default/tree"


def fill(client: Any, services: Any) -> None:
    for number in range(16):
        send_text(client, page(TOPICS[number % 4], number, 1), f"page-{number}.md")
    work(services)


def test_a_tree_is_grown_searched_and_removed(service: Service) -> None:
    client = service.client
    fill(client, service.services)
    assert client.get(TREE).json()["code"] == "tree_not_found"
    refused = client.post("/v1/search", json={"query": "oven", "mode": "tree"})
    assert (refused.status_code, refused.json()["code"]) == (422, "mode_unavailable")
    started = client.post(TREE)
    assert (started.status_code, started.json()["job"]["kind"]) == (202, "tree")
    work(service.services)
    job = client.get(f"/v1/jobs/{started.json()['job']['id']}").json()
    assert job["status"] == "succeeded"
    found = client.get(TREE).json()
    assert found["behind"] == 0
    assert found["n_nodes"] == sum(found["levels"].values()) > 0
    hits = client.post("/v1/search", json={"query": "the oven", "mode": "tree", "top_k": 5}).json()["hits"]
    assert len(hits) == 5
    assert all("tree" in hit["scores"] for hit in hits)
    assert client.delete(TREE).status_code == 204
    assert client.get(TREE).status_code == 404


def test_an_unknown_collection_has_no_tree(service: Service) -> None:
    for method in ("get", "post", "delete"):
        reply = getattr(service.client, method)("/v1/collections/nowhere/tree")
        assert (reply.status_code, reply.json()["code"]) == (404, "collection_not_found")


def texts(services: Any) -> list[str]:
    return [node.text for node in kept(services).values()]


def test_a_language_model_writes_summaries_and_is_asked_for_none_twice(
    tmp_path: Path, sqlite_template: Path
) -> None:
    script = [Reply(text="Boats and bread."), Reply(status=400, body="{}"), Reply(text="Strings and oars.")]
    with LlmServer(script) as server:
        llm = LlmSettings(base_url=server.base_url, model="small", max_parallel=1)
        url = f"sqlite:///{tmp_path / 'footnote.db'}"
        (tmp_path / "footnote.db").write_bytes(sqlite_template.read_bytes())
        with running_service(tmp_path / "home", url, llm=llm) as (client, services):
            fill(client, services)
            owner = collections.id_of("default")
            with pytest.raises(LanguageModelError):
                trees.build(services, owner)
            status = trees.build(services, owner)
            assert "small/summary-1" in status.model
            assert {*texts(services)} == {"Boats and bread.", "Strings and oars."}
            assert status.n_nodes == len(server.requests) - 1
            assert "<texts>" in server.requests[0].user
            hits = client.post("/v1/search", json={"query": "strings", "mode": "tree"}).json()["hits"]
            assert hits
            assert not any("Strings and oars" in hit["text"] for hit in hits)
