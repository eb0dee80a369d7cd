"""`footnote sync --watch` as a process: follows changes, waits while the folder is away, ends when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.db import collections, documents
from app.services import Services, open_services
from tests.service import settings_for

SECONDS = 60


@pytest.mark.slow
def test_a_watched_folder_is_followed_until_the_process_is_told_to_stop(tmp_path: Path) -> None:
    docs, home = tmp_path / "docs", tmp_path / "home"
    (docs / "sub").mkdir(parents=True)
    for name in ("leases.md", "fusion.md", "sub/tea.md"):
        (docs / name).write_text(f"# {name}\n\nSomething about {name}.")
    process = start(docs, home)
    try:
        with open_services(settings_for(home, "")) as services:
            until(lambda: len(ready(services)) == 3)
            (docs / "new.md").write_text("# New\n\nSomething new.")
            (docs / "fusion.md").unlink()
            wanted = {str(docs / name) for name in ("leases.md", "sub/tea.md", "new.md")}
            until(lambda: ready(services) == wanted)
            docs.rename(tmp_path / "away")
            time.sleep(1)
            assert ready(services) == wanted
            (tmp_path / "away").rename(docs)
            (docs / "more.md").write_text("# More\n\nSomething more.")
            until(lambda: ready(services) == wanted | {str(docs / "more.md")})
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "folder_unreadable" in said
    assert said.endswith("stopped\n")


def start(docs: Path, home: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"FOOTNOTE_SYNC_SETTLE_SECONDS": "0.2", "FOOTNOTE_SYNC_POLL_SECONDS": "0.2"}
    command = [sys.executable, "-m", "app.cli", "sync", str(docs), "--watch", "--home", str(home)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def ready(services: Services) -> set[str]:
    with services.read() as session:
        owner = collections.get_by_name(session, "default").id
        page = documents.list_page(session, collection_id=owner, status="ready")
        return {row.source for row in page.items}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
