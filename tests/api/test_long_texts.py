"""A text of several parts over HTTP: given back as it is, in pages of chunks, and in answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.db import revisions
from app.ids import parse_id
from app.settings import ServerSettings
from indexing.loaders import pool
from tests.api.conftest import Service
from tests.service import running_service, send_text, work

SENTENCES = [
    f'On day {n} the "keeper" of lamp {n * 7919 % 997} wrote \\{n} lines.\n\n' for n in range(25_000)
]


def test_a_long_text_comes_back_as_it_is(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_PART_BYTES", 10_000)
    text = "".join(SENTENCES) + "The end ☕😀.\n"
    reply = service.client.post("/v1/documents", files={"file": ("long.txt", text.encode())})
    work(service.services)
    url = f"/v1/documents/{reply.json()['document']['id']}"
    document = service.client.get(url).json()
    assert document["status"] == "ready"
    with service.services.read() as session:
        assert revisions.n_text_parts(session, parse_id(document["id"], "document"), 1) > 10
    shown = service.client.get(f"{url}/text")
    assert shown.headers["content-type"] == "application/json"
    assert shown.json() == {"text": text, "pages": []}
    assert service.client.get(f"{url}/file").content == text.encode()
    seen, cursor = [], None
    while True:
        params = {"limit": 10} | ({"cursor": cursor} if cursor else {})
        page = service.client.get(f"{url}/chunks", params=params).json()
        assert len(page["data"]) <= 10
        seen += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [chunk["ordinal"] for chunk in seen] == list(range(document["n_chunks"]))
    assert all(text[chunk["start"] : chunk["end"]] == chunk["text"] for chunk in seen)
    answer = service.client.post("/v1/answer", json={"query": "what did the keeper of lamp 5 write"}).json()
    for citation in answer["citations"]:
        assert text[citation["start"] : citation["end"]] == citation["quote"]


def test_a_page_of_chunks_names_the_next(service: Service) -> None:
    document = service.send("".join(SENTENCES[:200]), "short.txt")
    url = f"/v1/documents/{document['id']}/chunks"
    first = service.client.get(url, params={"limit": 1}).json()
    second = service.client.get(url, params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [chunk["ordinal"] for chunk in first["data"] + second["data"]] == [0, 1]
    assert service.client.get(url).json()["next_cursor"] is None
    refused = service.client.get(url, params={"cursor": "x"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_cursor")


def test_a_document_that_waits_has_no_text(service: Service) -> None:
    waiting = send_text(service.client, "Not yet.", "waiting.md")["document"]["id"]
    refused = service.client.get(f"/v1/documents/{waiting}/text")
    assert (refused.status_code, refused.json()["code"]) == (404, "text_not_ready")


def test_metrics_tell_memory_and_ceiling(service: Service) -> None:
    lines = dict(
        line.rsplit(" ", 1)
        for line in service.client.get("/metrics").text.splitlines()
        if line[:1] != "#" and line
    )
    assert float(lines["footnote_memory_ceiling_bytes"]) == service.services.settings.server.memory_bytes
    used = float(lines['footnote_memory_bytes{kind="allocated"}'])
    assert 0 < used <= float(lines['footnote_memory_bytes{kind="resident"}'])


def test_a_text_as_json_is_bounded_by_the_memory_of_the_service(tmp_path: Path) -> None:
    settings = ServerSettings(memory_bytes=256 * 1024 * 1024)
    with running_service(tmp_path / "home", "", server=settings) as (client, _):
        fits, does_not = "x" * 1000, "x" * (settings.max_json_bytes + 1)
        assert client.post("/v1/documents", json={"text": fits}).status_code == 202
        refused = client.post("/v1/documents", json={"text": does_not})
    assert (refused.status_code, refused.json()["code"]) == (413, "payload_too_large")
