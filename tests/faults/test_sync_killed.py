"""A sync killed with SIGKILL at any moment is continued by the next one: the collection is the folder."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from app.db import collections, documents, versions
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from tests.service import settings_for

N_FILES = 60
N_KILLS = 8
WORDS = ("harbour", "lantern", "orchard", "glacier", "violin", "compass", "meadow", "furnace")


def change(root: Path, chosen: random.Random) -> None:
    """Adds, changes, renames and deletes some files."""
    files = sorted(root.rglob("*.md"))
    for path in chosen.sample(files, len(files) // 5):
        path.unlink()
    for path in chosen.sample(sorted(root.rglob("*.md")), len(files) // 5):
        path.rename(path.with_name(f"{chosen.randrange(10**9)}.md"))
    for path in chosen.sample(sorted(root.rglob("*.md")), len(files) // 5):
        path.write_text(text(chosen))
    while len(list(root.rglob("*.md"))) < N_FILES:
        folder = root / chosen.choice(("", "a", "b/c"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{chosen.randrange(10**9)}.md").write_text(text(chosen))


def text(chosen: random.Random) -> str:
    return f"# {chosen.choice(WORDS)}\n\n" + " ".join(chosen.choices(WORDS, k=40)) + f" {chosen.random()}\n"


def start(root: Path, home: Path, url: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "FOOTNOTE_DATABASE_URL": url,
        "FOOTNOTE_WORKER_LEASE_SECONDS": "1",
        "FOOTNOTE_WORKER_POLL_SECONDS": "0.1",
        "FOOTNOTE_WORKER_BATCH_DOCUMENTS": "10",
        "FOOTNOTE_WORKER_MAX_ATTEMPTS": "50",
    }
    command = [sys.executable, "-m", "app.cli", "sync", str(root), "--yes", "--home", str(home)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(root: Path, home: Path, url: str) -> str:
    """What a sync says that has to end well."""
    process = start(root, home, url)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


def kept(services: Services) -> dict[str, str]:
    with services.read() as session:
        owner = collections.get_by_name(session, "default").id
        rows = [documents.get(session, key) for key in documents.ids_of_collection(session, owner)]
        version = versions.active(session, owner)
    assert {row.status for row in rows} == {"ready"}
    assert version is not None
    assert (version.n_documents, version.n_chunks) == (len(rows), sum(row.n_chunks for row in rows))
    return {row.source: row.content_hash for row in rows}


@pytest.mark.slow
def test_a_killed_sync_is_continued_by_the_next(database_url: str, tmp_path: Path) -> None:
    chosen = random.Random(7)
    root, home = tmp_path / "docs", tmp_path / "home"
    root.mkdir()
    n_killed = 0
    for _ in range(N_KILLS):
        change(root, chosen)
        process = start(root, home, database_url)
        time.sleep(chosen.uniform(1.5, 6))
        n_killed += process.poll() is None
        process.kill()
        process.communicate()
    assert n_killed, "every sync was done before its kill"
    run(root, home, database_url)
    wanted = {str(path): sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.md")}
    with open_services(settings_for(home, database_url)) as services:
        assert kept(services) == wanted
        for word in WORDS:
            found = search(services, SearchRequest(query=word, mode="bm25", top_k=100)).passages
            having = {str(path) for path in root.rglob("*.md") if word in path.read_text()}
            assert {passage.source for passage in found} == having
    assert f"0 added, 0 changed, 0 renamed, 0 deleted, {len(wanted)} unchanged" in run(
        root, home, database_url
    )
