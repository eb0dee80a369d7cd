"""`footnote serve` as it is started: the service, the worker beside it, and the end of both."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

SECONDS = 60


@contextmanager
def serving(home: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A running service, and a client of it once it is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FOOTNOTE_")}
    environment |= {"FOOTNOTE_WORKER_POLL_SECONDS": "0.05", "FOOTNOTE_WORKER_LOADERS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve", "--home", str(home), "--port", str(port), *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            until(lambda: process.poll() is not None or is_ready(client))
            assert process.poll() is None
            yield process, client
    finally:
        process.kill()
        process.communicate()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        # A process that has ended and was not waited for still has an entry.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children_of(pid: int) -> list[int]:
    if not sys.platform.startswith("linux"):
        pytest.skip("children are looked up in /proc")
    lists = Path(f"/proc/{pid}/task").glob("*/children")  # those of each thread
    return [int(child) for path in lists for child in path.read_text().split()]


@pytest.mark.slow
def test_a_document_sent_in_is_answered_from_and_a_signal_ends_both_processes(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as (process, client):
        sent = client.post("/v1/documents", json={"text": "The tower is 321 metres high.", "source": "t.md"})
        assert sent.status_code == 202
        until(lambda: client.get(f"/v1/jobs/{sent.json()['job']['id']}").json()["status"] == "succeeded")
        answer = client.post("/v1/answer", json={"query": "How high is the tower?"}).json()
        assert [citation["quote"] for citation in answer["citations"]] == ["The tower is 321 metres high."]
        assert "<title>Footnote</title>" in client.get("/").text
        workers = children_of(process.pid)
        assert workers
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, log
        assert "Traceback" not in log
        assert not any(is_alive(worker) for worker in workers)


@pytest.mark.slow
def test_a_worker_that_dies_is_started_again_and_ends_when_the_service_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as (process, _):
        until(lambda: children_of(process.pid))
        (first,) = children_of(process.pid)
        os.kill(first, signal.SIGKILL)
        until(lambda: children_of(process.pid) not in ([], [first]))
        (second,) = children_of(process.pid)
        time.sleep(3)  # long enough for it to look for its parent
        process.kill()
        process.wait()
        until(lambda: not is_alive(second))


@pytest.mark.slow
def test_no_worker_is_started_where_none_is_wanted(tmp_path: Path) -> None:
    with serving(tmp_path / "home", "--no-worker") as (process, client):
        sent = client.post("/v1/documents", json={"text": "A text.", "source": "t.md"}).json()
        assert children_of(process.pid) == []
        time.sleep(0.3)
        assert client.get(f"/v1/jobs/{sent['job']['id']}").json()["status"] == "todo"
        again = subprocess.run(process.args, stderr=subprocess.PIPE, text=True, timeout=SECONDS)
        assert again.returncode == 1, "the port is taken"
        assert f"error: The service did not start on 127.0.0.1:{client.base_url.port}" in again.stderr
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, log
        assert "Traceback" not in log
