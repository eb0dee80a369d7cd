"""`footnote sync`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Footnote


def test_a_folder_is_planned_synced_and_synced_again(footnote: Footnote, pages: Path) -> None:
    planned = footnote.json("sync", pages, "--dry-run")
    assert len(planned["add"]) == 3
    assert planned["n_bytes"] == sum(path.stat().st_size for path in pages.rglob("*.*"))
    assert planned["estimate_from"] == "defaults"
    assert footnote.json("documents", "list")["data"] == []
    assert "3 to add, 0 to change" in footnote("sync", pages, "--dry-run").out

    synced = footnote.json("sync", pages)
    assert (sorted(synced["added"]), synced["failed"]) == (sorted(planned["add"]), [])
    assert footnote.json("search", "when does the lease end")["hits"][0]["source"].endswith("leases.md")
    assert "0 added, 0 changed, 0 renamed, 0 deleted, 3 unchanged" in footnote("sync", pages).out


def test_changes_are_named(footnote: Footnote, pages: Path) -> None:
    footnote("sync", pages)
    (pages / "leases.md").rename(pages / "lease.md")
    (pages / "fusion.md").unlink()
    done = footnote("sync", pages)
    assert f"renamed  {pages / 'leases.md'} → {pages / 'lease.md'}" in done.out
    assert f"deleted  {pages / 'fusion.md'}" in done.out


def test_a_folder_that_was_emptied_is_refused_without_yes(footnote: Footnote, pages: Path) -> None:
    footnote("sync", pages)
    for path in pages.rglob("*.*"):
        path.unlink()
    assert "too_many_deletions" in footnote("sync", pages, code=1).err
    assert "too_many_deletions" in footnote("sync", pages, "--dry-run", code=1).err
    assert footnote.json("sync", pages, "--no-delete")["deleted"] == []
    assert len(footnote.json("sync", pages, "--yes")["deleted"]) == 3


def test_a_file_that_cannot_be_read_gives_exit_code_1(footnote: Footnote, pages: Path) -> None:
    (pages / "away.md").symlink_to(pages / "nowhere.md")
    done = footnote("sync", pages, code=1)
    assert "failed  " in done.out
    assert "3 added" in done.out


def test_wrong_usage_is_said(footnote: Footnote, pages: Path) -> None:
    footnote("sync", pages / "leases.md", code=2)
    footnote("sync", pages, "--watch", "--dry-run", code=2)
    footnote("sync", pages, "--watch", "--json", code=2)
    assert "folder_unreadable" in footnote("sync", pages / "nowhere", code=1).err
