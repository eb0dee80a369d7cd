"""Backups of a service at work: each holds a state that it was in at one instant."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import select

from app.backup import writing
from app.db import collections, documents, versions
from app.db.errors import DocumentNotFound
from app.db.tables import ChunkRow, DocumentRow, JobRow, RevisionRow
from app.documents import intake
from app.services import Services
from app.versions import verifying
from app.worker import Worker
from tests.service import settings_for, work
from tests.unit.app.backup.conftest import opened, quiet, restore, submit

N_SOURCES = 6
N_BACKUPS = 4


def text_of(source: int, number: int) -> str:
    return f"# Source {source}\n\nThis is revision {number} of source {source}. " + "It has words. " * (
        number % 7
    )


class Writer:
    """Adds, replaces and deletes documents; knows what was begun and what was acknowledged."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.begun: dict[int, int] = defaultdict(int)
        self.acknowledged: dict[int, int] = defaultdict(int)
        self.deletes: set[tuple[int, int]] = set()

    def run(self, stopped: threading.Event) -> None:
        step = 0
        while not stopped.is_set():
            source = step % N_SOURCES
            number = step + 1
            self.begun[source] = number
            if step % 5 == 4:
                self.deletes.add((source, number))
                self._delete(f"{source}.md")
            else:
                submit(self.services, f"{source}.md", text_of(source, number))
            self.acknowledged[source] = number
            step += 1
            stopped.wait(0.01)

    def wait_for(self, n_steps: int) -> None:
        """Until so many steps were acknowledged."""
        deadline = time.monotonic() + 120
        while max(list(self.acknowledged.values()), default=0) < n_steps:
            assert time.monotonic() < deadline, "too little happened"
            time.sleep(0.02)

    def _delete(self, source: str) -> None:
        with self.services.read() as session:
            default = collections.get_by_name(session, "default").id
            row = documents.get_by_source(session, default, source)
        if row is not None:
            with suppress(DocumentNotFound):
                intake.delete(self.services, row.id)


@contextmanager
def at_work(services: Services) -> Iterator[Writer]:
    """A service that is written to, and whose worker works, for the block."""
    writer, worker, stopped = Writer(services), Worker(services, name="live"), threading.Event()
    failures: list[BaseException] = []

    def guarded(run: object) -> None:
        try:
            run()  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=guarded, args=(lambda: writer.run(stopped),)),
        threading.Thread(target=guarded, args=(worker.run,)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield writer
    finally:
        stopped.set()
        worker.stop()
        for thread in threads:
            thread.join()
    assert failures == []


@pytest.mark.slow
def test_every_backup_of_a_service_at_work_is_a_state_it_had(database_url: str, tmp_path: Path) -> None:
    taken = []
    with opened(settings_for(tmp_path / "source", database_url)) as services, at_work(services) as writer:
        for number in range(N_BACKUPS):
            writer.wait_for(8 * (number + 1))
            before = dict(writer.acknowledged)
            path = tmp_path / f"{number}.tar"
            done = writing.back_up(services, path, say=quiet)
            assert done.manifest.missing_files == ()
            taken.append((path, before, dict(writer.begun)))
        deletes = writer.deletes
    for number, (path, before, begun) in enumerate(taken):
        settings = settings_for(tmp_path / f"there-{number}", "")
        restore(settings, path)
        with opened(settings) as restored:
            check_rows(restored)
            check_instant(restored, before, begun, deletes)
            work(restored)
            check_rows(restored)
            check_index(restored)


def check_rows(services: Services) -> None:
    """Chunks are what their spans say, files are what their hashes say, and what waits has a job."""
    with services.read() as session:
        for row in session.scalars(select(RevisionRow).where(RevisionRow.status != "superseded")):
            data = services.store.path(row.content_hash).read_bytes()
            assert (sha256(data).hexdigest(), len(data)) == (row.content_hash, row.n_bytes)
        texts = {(row.document_id, row.number): row.text for row in session.scalars(select(RevisionRow))}
        n_chunks: dict[int, int] = defaultdict(int)
        for chunk in session.scalars(select(ChunkRow)):
            text = texts[chunk.document_id, chunk.revision]
            assert text is not None
            assert text[chunk.start : chunk.end] == chunk.text
            n_chunks[chunk.document_id] += 1
        waiting = set(session.scalars(select(JobRow.document_id).where(JobRow.status == "todo")))
        for document in session.scalars(select(DocumentRow)):
            assert document.status in ("pending", "processing", "ready")
            assert document.status == "ready" or document.id in waiting
            if document.status == "ready":
                assert n_chunks[document.id] == document.n_chunks > 0


def check_instant(
    services: Services, before: dict[int, int], begun: dict[int, int], deletes: set[tuple[int, int]]
) -> None:
    """Each source is as it was after a step between the last acknowledged and the last begun one."""
    with services.read() as session:
        found = {row.source: row.content_hash for row in session.scalars(select(DocumentRow))}
    for source, last in begun.items():
        steps = range(before.get(source, 0), last + 1)
        possible = {
            None
            if step == 0 or (source, step) in deletes
            else sha256(text_of(source, step).encode()).hexdigest()
            for step in steps
            if step == 0 or (step - 1) % N_SOURCES == source
        }
        assert found.get(f"{source}.md") in possible, (source, steps)


def check_index(services: Services) -> None:
    with services.read() as session:
        row = versions.active(session, collections.get_by_name(session, "default").id)
    assert row is not None
    report = verifying.verify(services, row.id)
    # A vector is kept for a while when the text that it was made for was replaced meanwhile.
    assert [problem for problem in report.problems if problem.kind != "orphan_vectors"] == []
    assert report.behind == 0
