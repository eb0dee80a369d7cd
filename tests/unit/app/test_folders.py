"""Folders: which files count, and what they are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.files.folders import ALL_FILES, Rules, chosen, is_shown, scan, source_of
from app.services import open_services
from tests.service import settings_for


def names(root: Path, rules: Rules = ALL_FILES) -> list[str]:
    return [os.path.relpath(file.path, root) for file in scan(root, rules).files]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    for name in ("b.md", "a.md", ".hidden", "sub/c.txt", ".git/config", "node_modules/d.md", ".x/e.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_files_in_order_without_hidden_ones_and_skipped_folders(root: Path) -> None:
    assert names(root) == ["a.md", "b.md", ".x/e.md", "sub/c.txt"]
    assert [str(path) for path in chosen([root], ALL_FILES)] == [str(root / name) for name in names(root)]


def test_patterns_choose_the_files(root: Path) -> None:
    assert names(root, Rules(include=("*.md",))) == ["a.md", "b.md", ".x/e.md"]
    assert names(root, Rules(include=("*.md",), exclude=("b.*",))) == ["a.md", ".x/e.md"]
    assert names(root, Rules(include=("sub/*",))) == ["sub/c.txt"]


def test_links_to_folders_are_not_followed_and_links_to_files_are(root: Path, tmp_path: Path) -> None:
    (root / "sub" / "loop").symlink_to(root, target_is_directory=True)
    (root / "link.md").symlink_to(root / "a.md")
    assert names(root) == ["a.md", "b.md", "link.md", ".x/e.md", "sub/c.txt"]


def test_a_link_that_leads_nowhere_is_unreadable_and_not_gone(root: Path) -> None:
    (root / "away.md").symlink_to(root / "nowhere.md")
    found = scan(root, ALL_FILES)
    assert [item.source for item in found.unreadable] == [str(root / "away.md")]
    assert not found.knows(str(root / "away.md"))
    assert found.knows(str(root / "a.md"))


def test_a_pipe_is_no_file(root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert "pipe" not in names(root)
    assert chosen([root / "pipe"], ALL_FILES) == {}


def test_what_is_below_a_folder_that_refuses_is_not_known(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read every folder, so the refusal is made here."""
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = scan(root, ALL_FILES)
    assert [os.path.relpath(file.path, root) for file in found.files] == ["a.md", "b.md", ".x/e.md"]
    assert [item.source for item in found.unreadable] == [str(root / "sub")]
    assert not found.knows(str(root / "sub" / "c.txt"))
    assert found.knows(str(root / "submarine.md"))


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "nowhere", ALL_FILES)


def test_a_name_that_is_no_utf_8_is_written_out(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    path.write_text("coffee")
    assert source_of(path) == f"{tmp_path}/caf\\xe9.txt"
    assert [file.source for file in scan(tmp_path, ALL_FILES).files] == [source_of(path)]


def test_what_a_scan_does_not_come_by(root: Path) -> None:
    (root / "linked").symlink_to(root / "sub", target_is_directory=True)
    shown = {name: is_shown(str(root), f"{root}/{name}") for name in ("a.md", "sub/new.md", "sub/x/y.md")}
    assert all(shown.values())
    for name in (".hidden", "sub/.hidden", "node_modules/a.md", "sub/.git/a", "linked/c.txt"):
        assert not is_shown(str(root), f"{root}/{name}"), name
    assert is_shown("/", "/a.md")


def test_what_footnote_keeps_in_a_data_folder_is_no_document(tmp_path: Path) -> None:
    home = tmp_path / "data"
    with open_services(settings_for(home, "")):
        (home / "files" / "ab").mkdir()
        for name in ("files/ab/cd", "replaced-2026.tar", "notes.md"):
            (home / name).write_text("text")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine.md").write_text("text")
    found = [file.path.relative_to(tmp_path).as_posix() for file in scan(tmp_path, ALL_FILES).files]
    assert found == ["data/notes.md", "files/mine.md"]
