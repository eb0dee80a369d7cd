"""A disk that is full: a clear error, nothing acknowledged is lost, work goes on when there is room."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db import jobs
from app.search.searching import SearchRequest, search
from app.services import open_services
from tests.faults.conftest import CalmFleet
from tests.faults.harness import checks
from tests.faults.harness.zygote import load_words

MEBIBYTE = 1 << 20
DISK_BYTES = 64 * MEBIBYTE
BALLAST_BYTES = 56 * MEBIBYTE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system that is small enough to fill")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def text_of(number: int) -> str:
    """50 KB of few words, since it is not the encoder that is to be kept busy."""
    chance = random.Random(number)
    lines = [" ".join(f"{chance.getrandbits(120):030x}" for _ in range(8)) for _ in range(200)]
    return f"# Report {number}\n\nThe word is report{number}word.\n\n" + "\n\n".join(lines)


@pytest.mark.slow
def test_what_was_acknowledged_outlasts_a_full_disk(small_disk: Path, calm_fleet: CalmFleet) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(BALLAST_BYTES))
    fleet = calm_fleet(where=small_disk / "home", n_workers=2, FOOTNOTE_WORKER_MAX_ATTEMPTS="3")
    accepted, refused = [], []
    for number in range(400):
        reply = fleet.ask("POST", "/v1/documents", json={"text": text_of(number), "source": f"{number}.md"})
        assert reply is not None
        if reply.status_code == 202:
            accepted.append(number)
        else:
            refused.append(number)
            assert (reply.status_code, reply.json()["code"]) == (507, "storage_full"), reply.text
            assert int(reply.headers["Retry-After"]) > 0
        if len(refused) > 3:
            break
    assert accepted
    assert refused, "the disk was not filled"
    # Longer than the attempts of a job would last, if a full disk cost any.
    time.sleep(12)
    assert all(process.is_alive for process in fleet.workers)
    live = fleet.ask("GET", "/health/live")
    assert live is not None
    assert live.status_code == 200
    ballast.unlink()
    with open_services(checks.settings_for(fleet.home, ""), load=load_words) as services:
        fleet.wait_until_quiet(services, timeout_seconds=150)
        assert fleet.problems == []
        with services.read() as session:
            counts = jobs.counts(session)
        assert {status for _, status in counts} == {"succeeded"}, counts
        listed = fleet.ask("GET", "/v1/documents", params={"limit": 1000})
        assert listed is not None
        ready = {row["source"] for row in listed.json()["data"] if row["status"] == "ready"}
        assert {f"{number}.md" for number in accepted} <= ready
        for number in accepted:
            found = search(services, SearchRequest(query=f"report{number}word", mode="bm25")).passages
            assert len(found) == 1
    again = fleet.ask("POST", "/v1/documents", json={"text": text_of(refused[0]), "source": "late.md"})
    assert again is not None
    assert again.status_code == 202
