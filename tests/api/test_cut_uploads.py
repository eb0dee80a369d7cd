"""Uploads whose client goes away in the middle, or whose place does: nothing is kept or acknowledged."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.api.conftest import Service

FORM = b'--B\r\nContent-Disposition: form-data; name="file"; filename="cut.md"\r\n\r\nthe beginning of a text'


@pytest.mark.parametrize(
    ("content_type", "begun"),
    [(b"application/json", b'{"text": "the beginning'), (b"multipart/form-data; boundary=B", FORM)],
)
def test_an_upload_that_was_cut(
    service: Service, content_type: bytes, begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = "/v1/documents"
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"testserver"), (b"content-type", content_type), (b"idempotency-key", b"cut")],
        "client": ("127.0.0.1", 1), "server": ("testserver", 80),
    }  # fmt: skip
    messages = [
        {"type": "http.request", "body": begun, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: object) -> None:
        sent.append(message)

    asyncio.run(service.client.app(scope, receive, send))  # type: ignore[arg-type, call-arg, func-returns-value]
    assert sent == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert service.client.get("/v1/documents").json()["data"] == []
    assert 'status="499"' in service.client.get("/metrics").text
    again = service.client.post(
        path, json={"text": "the whole text", "source": "cut.md"}, headers={"Idempotency-Key": "cut"}
    )
    assert again.status_code == 202, "the key is free again"


def test_an_upload_while_the_data_folder_is_gone(service: Service) -> None:
    home = service.services.settings.home
    away = home.with_name("away")
    home.rename(away)
    refused = service.client.post("/v1/documents", json={"text": "a text", "source": "a.md"})
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_missing")
    assert not (home / "files").exists()
    away.rename(home)
    taken = service.client.post("/v1/documents", json={"text": "a text", "source": "a.md"})
    assert taken.status_code == 202
