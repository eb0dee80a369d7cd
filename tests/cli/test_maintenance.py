"""`footnote index`, `db`, `doctor` and `quickstart`."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.db import migration
from tests.cli.conftest import Footnote


@pytest.fixture
def filled(footnote: Footnote, pages: Path) -> Footnote:
    footnote("ingest", pages)
    return footnote


def test_the_served_version_is_listed_shown_and_verified(library: Footnote) -> None:
    (row,) = library.json("index", "list")["data"]
    assert (row["active"], row["status"], row["n_chunks"]) == (True, "ready", 3)
    status = library.json("index", "status")
    assert (status["active"], status["behind"]) == (row, 0)
    sound = {"version": row["id"], "ok": True, "behind": 0, "problems": []}
    assert library.json("index", "verify") == sound
    assert library.json("index", "verify", "--all", "--files", "--vectors", 2) == {
        "ok": True,
        "versions": [sound],
        "problems": [],
    }
    assert library.json("index", "verify", row["id"][:8])["version"] == row["id"]
    assert row["id"] in library("index", "list").out
    assert "3 documents, 3 chunks, 0 changes behind" in library("index", "status").out
    assert "no problem found" in library("index", "verify").out


def test_without_documents_there_is_no_index_yet(footnote: Footnote) -> None:
    assert footnote.json("index", "list")["data"] == []
    assert footnote.json("index", "status")["active"] is None
    assert "no index yet" in footnote("index", "status").out
    assert "(index_missing)" in footnote("index", "verify", code=1).err
    assert "(no_previous_version)" in footnote("index", "rollback", code=1).err


def test_versions_are_built_switched_and_left_again(filled: Footnote) -> None:
    first = filled.json("index", "status")["active"]["id"]
    beside = filled.json("index", "build", "--no-activate", "--max-tokens", 32, "--overlap-tokens", 4)
    assert (beside["status"], beside["active"]) == ("ready", False)
    assert filled.json("index", "status")["active"]["id"] == first
    assert filled.json("index", "activate", beside["id"][:12])["active"]
    assert filled.json("search", "warm the pot")["index_version"] == beside["id"]
    assert filled.json("index", "rollback")["id"] == first
    rebuilt = filled.json("index", "rebuild")
    assert rebuilt["active"]
    assert rebuilt["chunker_fingerprint"] != beside["chunker_fingerprint"]
    assert rebuilt["id"] == filled.json("search", "warm the pot")["index_version"]
    assert "served" in filled("index", "build").out
    kept = [row["id"] for row in filled.json("index", "list", "--collection", "default")["data"]]
    assert len(kept) == 3, "the served one and two others"
    assert rebuilt["id"] in kept


def test_a_build_takes_settings_of_its_own(filled: Footnote) -> None:
    fine = ("--set", "chunker.max_tokens=16", "--set", "chunker.overlap_tokens=0", "--no-activate")
    built = filled.json("index", "build", *fine)
    assert built["n_chunks"] >= filled.json("index", "status")["active"]["n_chunks"]
    other = filled.json("index", "build", "--chunker", "fine")
    assert built["chunker_fingerprint"] != other["chunker_fingerprint"]
    refused = filled("index", "build", "--set", "encoder.sise=1", code=1).err
    assert "encoder.model" in refused
    assert "(unknown_setting)" in refused
    filled("index", "build", "--set", "encoder.dim", code=2)
    filled("index", "build", "--chunker", "huge", code=2)


def test_versions_are_pruned_and_deleted(filled: Footnote) -> None:
    served = filled.json("index", "status")["active"]["id"]
    first, second = (filled.json("index", "build", "--no-activate")["id"] for _ in range(2))
    assert "(index_version_active)" in filled("index", "delete", served, code=1).err
    assert filled.json("index", "delete", first[:12]) == {"removed": [first]}
    assert filled.json("index", "prune") == {"removed": [], "dry_run": False}
    assert filled.json("index", "prune", "--keep", 0, "--dry-run") == {"removed": [second], "dry_run": True}
    assert f"removed {second}" in filled("index", "prune", "--keep", 0).out
    assert [row["id"] for row in filled.json("index", "list")["data"]] == [served]
    assert "nothing is superfluous" in filled("index", "prune").out


def test_chunks_beyond_the_encoders_window_are_refused(filled: Footnote) -> None:
    assert "(chunk_too_long)" in filled("index", "build", "--max-tokens", 5000, code=1).err


def test_a_damaged_index_is_found_and_made_anew(filled: Footnote) -> None:
    version = filled.json("index", "status")["active"]["id"]
    folder = filled.home / "indexes" / version
    victim = max(
        (p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"),
        key=lambda p: p.stat().st_size,
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    report = filled.json("index", "verify", code=1)
    assert not report["ok"]
    assert victim.name in report["problems"][0]["path"]
    assert victim.name in filled("index", "verify", code=1).out
    checks = {check["name"]: check for check in filled.json("doctor", "--deep", code=1)["checks"]}
    assert not checks["indexes"]["ok"]
    assert checks["indexes"]["advice"] == "footnote index repair --collection default"
    planned = filled.json("index", "repair", "--dry-run")
    assert (planned["version"], planned["replaced_by"]) == (version, None)
    assert "would be done: the index is made anew" in filled("index", "repair", "--dry-run").out
    done = filled.json("index", "repair")
    assert (done["left"], done["dry_run"]) == ([], False)
    assert done["replaced_by"] == filled.json("index", "status")["active"]["id"]
    assert "no problem found" in filled("index", "repair").out
    assert filled.json("index", "verify")["ok"]
    assert filled.json("doctor", "--deep")["ok"]


def test_the_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    footnote = Footnote(tmp_path / "new")
    footnote.home.mkdir()
    before = footnote.json("db", "current")
    assert (before["current"], before["up_to_date"]) == (None, False)
    assert "no schema yet" in footnote("db", "current").out
    after = footnote.json("db", "upgrade")
    assert after == {"current": migration.head(), "head": migration.head(), "up_to_date": True}
    assert footnote.json("db", "current") == after
    assert footnote("db", "upgrade").out.strip() == migration.head()


def test_the_schema_of_a_data_folder_that_is_not_there(tmp_path: Path) -> None:
    footnote = Footnote(tmp_path / "new")
    assert footnote.json("db", "upgrade")["up_to_date"]
    assert "(database_url)" in Footnote(tmp_path / "none")("db", "current", code=1).err


def test_a_healthy_installation_is_well(library: Footnote) -> None:
    report = library.json("doctor", "--deep")
    assert report["ok"]
    assert [check["name"] for check in report["checks"]] == [
        "settings",
        "disk",
        "memory",
        "database",
        "encoder",
        "jobs",
        "indexes",
    ]
    assert all(check["ok"] for check in report["checks"])
    lines = library("doctor").out.splitlines()
    assert len(lines) == len(report["checks"])
    assert all(line.startswith("ok ") for line in lines)


def test_a_misspelt_variable_is_found_with_advice(library: Footnote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTNOTE_SERCH_ALPHA", "0.5")
    report = library.json("doctor", code=1)
    bad = [check for check in report["checks"] if not check["ok"]]
    assert [check["name"] for check in bad] == ["settings"]
    assert "FOOTNOTE_SERCH_ALPHA" in bad[0]["detail"]
    assert "settings page" in bad[0]["advice"]
    assert "BAD  settings" in library("doctor", code=1).out


def test_a_database_that_is_away_is_found(footnote: Footnote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTNOTE_DATABASE_URL", "postgresql://footnote:hunter2@127.0.0.1:9/footnote")
    done = footnote("doctor", code=1)
    assert "BAD  database" in done.out
    assert "FOOTNOTE_DATABASE_URL" in done.out
    assert "hunter2" not in done.out + done.err


def test_an_index_that_is_lost_is_found(filled: Footnote) -> None:
    version = filled.json("index", "status")["active"]["id"]
    (filled.home / "indexes" / version / "manifest.json").unlink()
    report = filled.json("doctor", code=1)
    (bad,) = [check for check in report["checks"] if not check["ok"]]
    assert bad["name"] == "indexes"
    assert "footnote index rebuild" in bad["detail"] + bad["advice"]


def test_quickstart_ingests_and_answers(footnote: Footnote, pages: Path) -> None:
    done = footnote("quickstart", pages, "--no-serve", "--question", "When does a job return to the queue?")
    assert "Ingesting 3 documents" in done.out
    assert "3 ready" in done.out
    assert "Q: When does a job return to the queue?" in done.out
    assert "leases.md" in done.out
    assert "[1]" in done.out
