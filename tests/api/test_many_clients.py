"""A real server with more clients than threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from app.main import create_app
from app.services import Services, open_services
from indexing.encoding.fake import WordEncoder
from tests.service import settings_for, work

N_CLIENTS = 100
SECONDS = 60


@contextmanager
def listening(services: Services, hosts: tuple[str, ...] = ()) -> Iterator[str]:
    """The address of a server over the services."""
    config = uvicorn.Config(create_app(services, hosts), port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with open_services(settings_for(tmp_path / "home", ""), load=lambda _spec, _dir: WordEncoder()) as opened:
        yield opened


@pytest.mark.parametrize(
    "body", [{"query": "tea"}, {"query": "tea", "stream": True}], ids=["plain", "stream"]
)
def test_a_hundred_at_once_get_an_answer_or_an_early_refusal(services: Services, body: dict) -> None:
    path = "/v1/answer" if "stream" in body else "/v1/search"
    with listening(services) as url, httpx.Client(timeout=SECONDS) as client:
        client.post(f"{url}/v1/documents", json={"text": "# Tea\n\nWarm the pot before the leaves go in.\n"})
        work(services)
        with ThreadPoolExecutor(N_CLIENTS) as threads:
            replies = list(
                threads.map(lambda _: httpx.post(url + path, json=body, timeout=SECONDS), range(N_CLIENTS))
            )
        assert client.get(f"{url}/health/live").status_code == 200
    statuses = {reply.status_code for reply in replies}
    assert statuses <= {200, 503}
    assert 200 in statuses
    assert all(reply.headers["retry-after"] == "1" for reply in replies if reply.status_code == 503)


def test_listeners_to_a_job_that_waits_stop_no_one(services: Services) -> None:
    with (
        listening(services) as url,
        httpx.Client(timeout=SECONDS, limits=httpx.Limits(max_connections=80)) as client,
    ):
        job = client.post(f"{url}/v1/documents", json={"text": "Warm the pot."}).json()["job"]
        streams = [client.stream("GET", f"{url}/v1/jobs/{job['id']}/events") for _ in range(60)]
        replies = [stream.__enter__() for stream in streams]
        firsts = [next(reply.iter_lines()) for reply in replies]
        assert firsts == ["event: job"] * 60
        assert client.post(f"{url}/v1/search", json={"query": "tea"}).status_code == 200
        for stream in streams:
            stream.__exit__(None, None, None)


def test_a_page_of_another_site_can_neither_write_nor_ask(services: Services) -> None:
    with listening(services, ("localhost",)) as url, httpx.Client(timeout=SECONDS) as client:
        text = {"text": "Planted."}
        foreign = client.post(f"{url}/v1/documents", json=text, headers={"Origin": "http://evil.example"})
        assert (foreign.status_code, foreign.json()["code"]) == (403, "origin_not_allowed")
        renamed = client.get(f"{url}/v1/documents", headers={"Host": "evil.example"})
        assert (renamed.status_code, renamed.json()["code"]) == (403, "host_not_allowed")
        own = client.post(f"{url}/v1/documents", json=text, headers={"Origin": url})
        assert own.status_code == 202
        assert own.headers["x-content-type-options"] == "nosniff"
