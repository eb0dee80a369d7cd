"""A worker with little memory: what fits is done, what does not fails by name, and the next job is done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app import memory
from app.db import documents, jobs
from app.documents import intake
from app.services import Services, open_services
from tests.service import settings_for

MEBIBYTE = 1 << 20
CEILING = 560 * MEBIBYTE  # with its model and libraries, a worker that rests has 340
FITS = 8 * MEBIBYTE
FITS_NOT = 255 * MEBIBYTE
WAIT_SECONDS = 540
WORDS = ("harbour", "lantern", "orchard", "glacier", "violin", "compass", "meadow", "furnace")


def paragraph(number: int) -> str:
    """About as long as a chunk."""
    said = (
        f"The {WORDS[(number + n) % 8]} keeps {number * n % 97} of the {WORDS[n % 8]}s." for n in range(20)
    )
    return " ".join(said) + "\n\n"


def write_prose(path: Path, n_bytes: int) -> None:
    """Few chunks that differ, so that encoding takes no time; and one emoji, for which a string of the text
    would take four bytes a character."""
    some = "".join(map(paragraph, range(200))).encode()
    with path.open("wb") as file:
        while file.tell() < n_bytes:
            file.write(some)
        file.truncate(n_bytes)
        file.seek(n_bytes)
        file.write(" 😀\n".encode())


def sent(services: Services, path: Path) -> int:
    with path.open("rb") as content:
        return intake.submit(services, intake.Submission(filename=path.name), content).document.id


def wait_until_done(services: Services, worker: subprocess.Popen[bytes]) -> int:
    """The most memory that the worker had at once, in bytes."""
    peak, deadline = 0, time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        assert worker.poll() is None, "the worker lives"
        used = memory.usage(worker.pid)
        peak = max(peak, used.anonymous if used else 0)
        with services.read() as session:
            left = [n for (_, status), n in jobs.counts(session).items() if status in ("todo", "doing")]
        if not left:
            return peak
        time.sleep(0.05)
    raise AssertionError("the jobs were not done in time")


@pytest.mark.slow
@pytest.mark.skipif(not memory.is_kept(), reason="this system keeps no ceiling")
def test_a_worker_stays_below_its_ceiling_and_says_what_does_not_fit(
    database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path / "home", database_url)
    write_prose(tmp_path / "long.txt", FITS)
    write_prose(tmp_path / "longest.txt", FITS_NOT)
    (tmp_path / "after.md").write_text("# After\n\nThe next job is done.\n")
    with open_services(settings) as services:
        long, longest, after = (
            sent(services, tmp_path / name) for name in ("long.txt", "longest.txt", "after.md")
        )
        environment = os.environ | {
            "FOOTNOTE_DATABASE_URL": database_url,
            "FOOTNOTE_WORKER_MEMORY_BYTES": str(CEILING),
            "FOOTNOTE_WORKER_POLL_SECONDS": "0.1",
            "FOOTNOTE_WORKER_NICE": "0",
        }
        command = [sys.executable, "-m", "app.cli", "worker", "--home", str(settings.home)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as worker:
            try:
                peak = wait_until_done(services, worker)
            finally:
                worker.terminate()
        with services.read() as session:
            found = {key: documents.get(session, key) for key in (long, longest, after)}
    assert peak <= CEILING
    assert found[long].status == "ready"
    assert found[after].status == "ready"
    assert found[longest].error_code == "out_of_memory"
    assert "FOOTNOTE_WORKER_MEMORY_BYTES" in (found[longest].error_detail or "")
