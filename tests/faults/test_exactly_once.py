"""A service killed within a request, processes that send the same at once: nothing is doubled."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from app.db import chunks, collections, documents, revisions, versions
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from app.worker import Worker
from indexing.encoding.fake import WordEncoder
from tests.service import settings_for

SERVER = """
import sys, uvicorn
from pathlib import Path
from app.main import create_app
from app.services import open_services
from indexing.encoding.fake import WordEncoder
from tests.service import settings_for
import app.api.idempotency

app.api.idempotency.LEASE_SECONDS = 1.0
home, url, port = sys.argv[1:]
with open_services(settings_for(Path(home), url), load=lambda *_: WordEncoder()) as services:
    uvicorn.run(create_app(services), port=int(port), log_level="error")
"""

SENDER = """
import sys
from io import BytesIO
from pathlib import Path
from app.documents import intake
from app.services import open_services
from indexing.encoding.fake import WordEncoder
from tests.service import settings_for

home, url, name = sys.argv[1:]
with open_services(settings_for(Path(home), url), load=lambda *_: WordEncoder()) as services:
    for number in range(20):
        for text in (f"# Note\\n\\nWarm pot number {number}.", f"# Note\\n\\nOnly {name} says {number}."):
            source = "same.md" if "Warm" in text else f"{name}-{number}.md"
            intake.submit(services, intake.Submission(filename=source), BytesIO(text.encode()))
"""

INGESTER = """
import sys
from functools import partial
from app.cli import app, context
from app.services import open_services
from indexing.encoding.fake import WordEncoder

context.open_services = partial(open_services, load=lambda *_: WordEncoder())
app(["ingest", sys.argv[1], "--home", sys.argv[2], "--json"])
"""
TEA = {"text": "# Tea\n\nWarm the pot.", "source": "tea.md"}
KEY = {"Idempotency-Key": "one"}


def start(program: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *(str(argument) for argument in arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | environment, stdout=pipe, stderr=pipe, text=True)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health/live")
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the service did not start")


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("point", ["idempotency-worked", "idempotency-kept"])
def test_a_service_killed_while_it_answers_makes_one_document(
    database_url: str, tmp_path: Path, port: int, point: str
) -> None:
    address = f"http://127.0.0.1:{port}/v1/documents"
    first = start(SERVER, tmp_path, database_url, port, FOOTNOTE_CRASH_AT=point)
    wait_for(port)
    with pytest.raises(httpx.TransportError):
        httpx.post(address, json=TEA, headers=KEY)
    first.communicate(timeout=30)
    assert first.returncode == -signal.SIGKILL
    second = start(SERVER, tmp_path, database_url, port)
    try:
        wait_for(port)
        statuses = []
        while not statuses or statuses[-1] == 409:
            statuses.append(httpx.post(address, json=TEA, headers=KEY).status_code)
            time.sleep(0.1)
        shown = httpx.get(address).json()["data"]
        jobs = httpx.get(f"http://127.0.0.1:{port}/v1/jobs").json()["data"]
    finally:
        second.kill()
        second.communicate()
    # The work was done and its answer not kept: done again, it finds the same bytes, which change nothing.
    assert statuses[-1] == (200 if point == "idempotency-worked" else 202)
    assert [row["source"] for row in shown] == ["tea.md"]
    assert len(jobs) == 1


def test_processes_that_send_the_same_source_make_one_document(database_url: str, tmp_path: Path) -> None:
    senders = [start(SENDER, tmp_path, database_url, name) for name in ("left", "right")]
    endings = [(sender.communicate(timeout=120)[1], sender.returncode) for sender in senders]
    assert [code for _, code in endings] == [0, 0], endings
    with open_services(settings_for(tmp_path, database_url), load=lambda *_: WordEncoder()) as services:
        Worker(services, name="test").drain()
        check_one_of_each(services, 41)
        with services.read() as session:
            row = documents.get_by_source(session, collections.id_of("default"), "same.md")
            assert row is not None
            last = revisions.newest(session, row.id)
        assert last is not None
        assert row.revision == last.number, "the content accepted last is the one served"
        assert 20 <= last.number <= 40, "a revision for every change of the content, and none besides"
        assert row.content_hash == last.content_hash


def test_two_commands_that_ingest_one_folder_make_one_of_each(tmp_path: Path) -> None:
    folder, home = tmp_path / "pages", tmp_path / "home"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02d}.md").write_text(f"# Page {number}\n\nWarm pot number {number}.\n")
    commands = [start(INGESTER, folder, home) for _ in range(2)]
    endings = [(command.communicate(timeout=200)[1], command.returncode) for command in commands]
    assert [code for _, code in endings] == [0, 0], endings
    with open_services(settings_for(home, ""), load=lambda *_: WordEncoder()) as services:
        check_one_of_each(services, 60)
        with services.read() as session:
            page = documents.list_page(session, limit=100)
        assert {row.revision for row in page.items} == {1}


def check_one_of_each(services: Services, n_documents: int) -> None:
    """So many documents, all ready, and an index that has exactly their chunks, each once."""
    with services.read() as session:
        page = documents.list_page(session, limit=1000)
        version = versions.active(session, collections.id_of("default"))
        assert version is not None
        expected = chunks.ids_of_collection(session, version.collection_id, version.chunker_fingerprint)
    assert len(page.items) == n_documents
    assert {row.status for row in page.items} == {"ready"}
    assert services.snapshots.get(version.id).chunk_ids().tolist() == expected.tolist()
    hits = search(services, SearchRequest(query="warm pot", mode="bm25", top_k=1000)).passages
    assert len({hit.chunk.document_id for hit in hits}) == len(hits)
