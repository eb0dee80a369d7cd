"""A purge leaves nothing of what killed processes left either, or says what is in its way."""

from __future__ import annotations

import os
from datetime import timedelta
from io import BytesIO

import pytest
from sqlalchemy import update

from app import purging
from app.backup import restoring
from app.db import collections, documents, queue, versions
from app.db.tables import JobRow
from app.db.types import utc_now
from app.documents import deleting, intake
from app.documents.receipts import read_receipt
from app.services import Services
from app.versions import building, retention
from indexing.locks import DirectoryLock
from tests.service import work

MARKER = "zyzzyvine"
TEA = "# Tea\n\nWarm the pot before the leaves go in.\n"
SECRET = f"# Secret\n\nThe {MARKER} opens the harbour gate.\n"


class Killed(BaseException):
    """In the place of a signal that ends the process."""


@pytest.fixture
def filled(services: Services) -> Services:
    for source, text in {"tea.md": TEA, "secret.md": SECRET}.items():
        add(services, source, text)
    work(services)
    return services


def add(services: Services, source: str, text: str, collection: str = "default") -> int:
    submission = intake.Submission(filename=source, collection=collection)
    return intake.submit(services, submission, BytesIO(text.encode())).document.id


def id_of(source: str) -> int:
    return documents.id_of("default", source)


def purge(services: Services, collection: str = "default") -> purging.Purged:
    return purging.purge(services, collections.id_of(collection))


def traces(services: Services) -> list[str]:
    """The files of the data folder in which the word stands."""
    home = services.settings.home
    held = [path for path in home.rglob("*") if path.is_file() and MARKER.encode() in path.read_bytes()]
    return sorted(str(path.relative_to(home)) for path in held)


def folders(services: Services) -> list[str]:
    """The index versions of which there are files."""
    return sorted(path.name for path in services.settings.indexes_dir.iterdir() if path.is_dir())


def killed_at(point: str, monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    def checkpoint(name: str) -> None:
        if name == point:
            monkeypatch.undo()
            raise Killed

    monkeypatch.setattr(module, "checkpoint", checkpoint)


def test_a_deletion_killed_before_it_removed_the_file(
    filled: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at("document-deleted", monkeypatch, intake)
    with pytest.raises(Killed):
        deleting.delete(filled, id_of("secret.md"))
    assert traces(filled)
    assert purge(filled).pending == ()
    assert traces(filled) == []


def test_the_deletion_of_a_collection_killed_before_it_removed_anything(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    with services.write() as session:
        collections.create(session, "side")
    add(services, "secret.md", SECRET, "side")
    work(services)
    killed_at("collection-deleted", monkeypatch, deleting)
    with pytest.raises(Killed):
        deleting.delete_collection(services, "side")
    purged = purge(services, "side")
    assert purged.pending == ()
    assert len(purged.deletion_ids) == 1
    assert (traces(services), folders(services)) == ([], [])


def test_an_index_version_whose_removal_was_killed(filled: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled.read() as session:
        active = versions.active(session, collections.id_of("default"))
    assert active is not None
    made = building.rebuild(filled, active)
    killed_at("version-forgotten", monkeypatch, retention)
    with pytest.raises(Killed):
        retention.delete(filled, made.id)
    assert len(folders(filled)) == 2
    deleting.delete(filled, id_of("secret.md"))
    assert purge(filled).pending == ()
    assert folders(filled) == [active.id]


def test_the_files_of_a_failed_version_whose_removal_was_killed(filled: Services) -> None:
    with filled.read() as session:
        active = versions.active(session, collections.id_of("default"))
    assert active is not None
    made = building.rebuild(filled, active)
    with filled.write() as session:
        versions.set_status(session, made.id, "failed", error="ended")
    deleting.delete(filled, id_of("secret.md"))
    assert purge(filled).pending == ()
    assert folders(filled) == [active.id]


def test_a_restore_killed_before_its_switch(filled: Services) -> None:
    staged = filled.store.folder / restoring.STAGED_FILES / "ab"
    staged.mkdir(parents=True)
    for left in (staged / "abcd", filled.settings.home / "footnote.db.restoring"):
        left.write_bytes(SECRET.encode())
    deleting.delete(filled, id_of("secret.md"))
    assert purge(filled).pending == ()
    assert traces(filled) == []


def test_a_restore_at_work_is_in_the_way(filled: Services) -> None:
    lock = restoring.RestoreLock(filled.settings.home)
    lock.acquire()
    left = filled.settings.home / "footnote.db.restoring"
    left.write_bytes(SECRET.encode())
    placed = filled.store.add(BytesIO(b"a file whose row comes with the switch"))
    deleting.delete(filled, id_of("secret.md"))
    assert "restore" in "".join(purge(filled).pending)
    assert left.exists()
    assert filled.store.path(placed.content_hash).exists()
    lock.release()


def test_an_upload_killed_while_it_was_copied(filled: Services) -> None:
    left = filled.store.folder / "incoming" / "tmpleft"
    left.write_bytes(SECRET.encode())
    deleting.delete(filled, id_of("secret.md"))
    assert purge(filled).pending == ()
    assert traces(filled) == []


def test_a_backup_that_is_being_written_is_in_the_way_and_a_killed_one_is_not(filled: Services) -> None:
    folder = filled.store.folder / "backup" / "0123"
    folder.mkdir(parents=True)
    lock = DirectoryLock(folder)
    lock.acquire()
    (folder / "kept").write_bytes(SECRET.encode())
    receipt = deleting.delete(filled, id_of("secret.md"))
    pending = purge(filled).pending
    assert len(pending) == 1
    assert "backup" in pending[0]
    assert read_receipt(filled, receipt.id).purged_at is None
    lock.release()
    os.utime(folder, (1, 1))
    assert purge(filled).pending == ()
    assert traces(filled) == []


def test_what_a_worker_has_in_hand_is_in_the_way(filled: Services) -> None:
    """It may save what it has encoded of the text after the purge."""
    add(filled, "secret.md", SECRET + "More.\n")
    with filled.write() as session:
        assert queue.claim(session, "another", [intake.INGEST])
    receipt = deleting.delete(filled, id_of("secret.md"))
    (pending,) = purge(filled).pending
    assert "worker" in pending
    assert read_receipt(filled, receipt.id).purged_at is None
    with filled.write() as session:
        session.execute(update(JobRow).values(lease_expires_at=utc_now() - timedelta(seconds=1)))
    assert purge(filled).deletion_ids == (receipt.id,)
