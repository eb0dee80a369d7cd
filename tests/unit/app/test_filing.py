"""Files of this machine taken in: what may stand at a path, and what a command meets before it works."""

from __future__ import annotations

import errno
import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NoReturn

import pytest

from app import worker
from app.cli import ingest as command
from app.db import documents, jobs
from app.documents import deleting, intake
from app.files import filing
from app.files.filing import keep
from app.files.folders import Trouble, digest
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from indexing.encoding.fake import WordEncoder
from tests.service import loaders, settings_for, work


def silent(_stage: str, _done: int, _total: int) -> None:
    pass


def test_a_pipe_that_took_the_place_of_a_file_is_not_waited_for(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    os.mkfifo(path)
    found = keep(services, path)
    assert isinstance(found, Trouble)
    assert found.code == "unreadable"
    with pytest.raises(OSError, match="no plain file"):
        digest(path)


def test_a_full_disk_is_not_laid_to_the_file(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_services: Services, _stream: BinaryIO) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.md").write_text("text")
    monkeypatch.setattr(intake, "keep_file", full)
    found = keep(services, tmp_path / "a.md")
    assert isinstance(found, Trouble)
    assert found.code == "storage_full"


def test_a_document_that_was_deleted_while_a_command_worked_on_it(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in ("a.md", "b.md")]
    for path in paths:
        path.write_text(f"# {path.name}\n\nThe text of {path.name}.\n")

    def work(services: Services, ids: dict[int, str], say: filing.Say) -> None:
        filing.work(services, ids, say)
        deleting.delete(services, documents.id_of("default", "a.md"))

    monkeypatch.setattr(command, "work", work)
    report = command.ingest_files(services, [(path, path.name) for path in paths], "default", say=silent)
    assert (report.ready, report.failed) == (["b.md"], [])


def test_an_older_database_put_in_place_loses_no_later_document(home: Path, tmp_path: Path) -> None:
    """Its next changes get numbers that the index has seen already, of changes that are forgotten."""

    def ingest(names: str) -> None:
        paths = [tmp_path / f"{name}.md" for name in names]
        for path in paths:
            path.write_text(f"# {path.stem}\n\nThe word is word{path.stem}.\n")
        with open_services(settings_for(home, ""), load=lambda _spec, _dir: WordEncoder()) as services:
            command.ingest_files(services, [(path, path.name) for path in paths], "default", say=silent)

    ingest("ab")
    shutil.copyfile(home / "footnote.db", tmp_path / "older.db")
    ingest("cde")
    shutil.copyfile(tmp_path / "older.db", home / "footnote.db")
    ingest("vwxyz")
    with open_services(settings_for(home, ""), load=lambda _spec, _dir: WordEncoder()) as services:
        for name in "abvwxyz":
            found = search(services, SearchRequest(query=f"word{name}", mode="bm25")).passages
            assert [passage.source for passage in found] == [f"{name}.md"], name


def test_a_job_waits_for_a_data_folder_that_is_away(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is as good as it was."""
    monkeypatch.setitem(worker.POSTPONED_SECONDS, "storage_missing", 0.0)
    accepted = intake.submit(
        services, intake.Submission(filename="a.md"), BytesIO(b"# A\n\nThe text of a.\n")
    )
    assert accepted.job is not None
    away = services.store.folder.with_name("away")
    services.store.folder.rename(away)
    one = worker.Worker(services, name="test", loaders=loaders())
    for _ in range(7):  # more often than a job is tried
        assert one.step()
    with services.read() as session:
        job = jobs.get(session, accepted.job.id)
    assert (job.status, job.error_code, job.attempts) == ("todo", "storage_missing", 0)
    away.rename(services.store.folder)
    work(services)
    with services.read() as session:
        assert documents.get(session, accepted.document.id).status == "ready"
