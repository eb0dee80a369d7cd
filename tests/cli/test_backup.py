"""`footnote backup` and `footnote restore`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from app.cli.backup import backup_command, restore_command
from tests.cli.conftest import Footnote


@pytest.fixture
def archive(library: Footnote, tmp_path: Path) -> Path:
    library("backup", tmp_path / "backup.tar")
    return tmp_path / "backup.tar"


def scores(footnote: Footnote) -> object:
    return [(hit["chunk_id"], hit["score"]) for hit in footnote.json("search", "warm the pot")["hits"]]


def test_a_backup_is_written_checked_and_restored(library: Footnote, tmp_path: Path) -> None:
    path, there = tmp_path / "backup.tar", Footnote(tmp_path / "there")
    written = library.json("backup", path)
    assert (written["tables"]["documents"], written["files"], written["missing_files"]) == (3, 3, [])
    assert written["bytes"] == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    checked = library.json("backup", path, "--verify")
    assert checked["ok"]
    assert checked["rows"] == written["rows"]
    restored = there.json("restore", path)
    assert restored["tables"] == written["tables"]
    assert restored["undo"] is None
    (index,) = restored["indexes"]
    assert (index["collection"], index["n_chunks"], index["problem"]) == ("default", 3, None)
    assert scores(there) == scores(library)
    assert there.json("index", "verify")["ok"]


def test_plain_output_says_what_was_done(library: Footnote, archive: Path, tmp_path: Path) -> None:
    there = Footnote(tmp_path / "there")
    assert "3 documents, 3 chunks, 3 files" in library("backup", archive, "--force").out
    assert "backup.tar: whole; 3 documents" in library("backup", archive, "--verify").out
    out = there("restore", archive, "--no-index").out
    assert "restored the backup of" in out
    assert "no index of default: it was not asked for; `footnote index rebuild --collection default`" in out
    assert "what was there before: " in there("restore", archive, "--replace").out
    assert len(list(there.home.glob("replaced-*.tar"))) == 1
    assert scores(there) == scores(library)


def test_what_cannot_be_done_has_a_code(library: Footnote, archive: Path, tmp_path: Path) -> None:
    there = Footnote(tmp_path / "there")
    assert "(archive_exists)" in library("backup", archive, code=1).err
    assert "(target_not_empty)" in library("restore", archive, code=1).err
    assert "(archive_unknown)" in there("restore", __file__, code=1).err
    assert "(archive_unknown)" in there("backup", __file__, "--verify", code=1).err
    archive.write_bytes(archive.read_bytes()[:-3000])
    assert "(archive_damaged)" in there("restore", archive, code=1).err
    assert "(file_error)" in there("restore", tmp_path / "nothing.tar", code=1).err


def test_a_backup_goes_through_a_pipe(
    library: Footnote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, there = io.TextIOWrapper(io.BytesIO()), Footnote(tmp_path / "there")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        backup_command(Path("-"), home=library.home)
    pipe.buffer.seek(0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", pipe)
        restore_command(Path("-"), home=there.home)
    assert scores(there) == scores(library)


def test_a_backup_of_no_data_folder_fails_and_makes_none(tmp_path: Path) -> None:
    nowhere = Footnote(tmp_path / "nowhere")
    assert "home_not_found" in nowhere("backup", tmp_path / "backup.tar", code=1).err
    assert not nowhere.home.exists()
    assert not (tmp_path / "backup.tar").exists()
