"""`footnote documents delete`, `deletions` and `purge`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Footnote


def test_documents_are_deleted_by_pattern_and_by_filter(footnote: Footnote, pages: Path) -> None:
    footnote("ingest", pages, "--metadata", '{"kind": "page"}')
    dry = footnote.json("documents", "delete", "--source", "*.md", "--dry-run")
    assert dry["n_documents"] == 2
    assert {item["source"].rsplit("/", 1)[-1] for item in dry["data"]} == {"fusion.md", "leases.md"}
    assert (
        "2 documents would be deleted" in footnote("documents", "delete", "--source", "*.md", "--dry-run").out
    )
    assert len(footnote.json("documents", "list")["data"]) == 3
    refused = footnote("documents", "delete", "--source", "*.md", code=2)
    assert "--yes" in refused.err
    done = footnote.json("documents", "delete", "--source", "*.md", "--yes")
    assert done["n_documents"] == 2
    assert [probe["n_found_after"] for probe in done["receipts"][0]["probe"]] == [0, 0]
    none = footnote.json("documents", "delete", "--where", '{"kind": "other"}', "--yes")
    assert none == {"n_documents": 0, "receipts": []}
    said = footnote("documents", "delete", "--where", '{"kind": "page"}', "-y").out
    assert "found by 1 of 1 searches before, by 0 after" in said
    assert footnote.json("documents", "list")["data"] == []
    assert footnote("search", "lease", "--mode", "bm25", "--json").json["hits"] == []


def test_receipts_are_kept_and_purged(footnote: Footnote, pages: Path) -> None:
    footnote("ingest", pages)
    sources = [item["source"] for item in footnote.json("documents", "list")["data"]]
    first = footnote.json("documents", "delete", sources[0])["receipt"]
    several = footnote.json("documents", "delete", *sources[1:])["receipts"]
    listed = footnote.json("documents", "deletions")["data"]
    assert listed == [*several, first]
    assert footnote.json("documents", "deletions", first["id"]) == first
    assert first["id"] in footnote("documents", "deletions", first["id"]).out
    assert first["id"] in footnote("documents", "deletions").out
    assert "deletion_not_found" in footnote("documents", "deletions", "none", code=1).err
    purged = footnote.json("documents", "purge")
    assert sorted(purged["deletion_ids"]) == sorted(item["id"] for item in listed)
    assert all(item["purged_at"] for item in footnote.json("documents", "deletions")["data"])
    assert "purged: 0 deletions" in footnote("documents", "purge").out


def test_a_deletion_is_purged_at_once_where_that_is_asked(footnote: Footnote, pages: Path) -> None:
    footnote("ingest", pages)
    source = footnote.json("documents", "list")["data"][0]["source"]
    assert footnote.json("documents", "delete", source, "--purge")["receipt"]["purged_at"]


def test_what_is_in_the_way_of_a_purge_is_said(footnote: Footnote, pages: Path) -> None:
    footnote("ingest", pages)
    source = footnote.json("documents", "list")["data"][0]["source"]
    (footnote.home / "files" / "backup" / "0123").mkdir(parents=True)
    done = footnote("documents", "delete", source, "--purge", "--json", code=1)
    assert done.json["receipt"]["purged_at"] is None
    assert "not purged: a backup" in done.err
    assert "a backup" in footnote("documents", "purge", code=1).out


def test_it_has_to_be_said_which(footnote: Footnote) -> None:
    footnote("documents", "delete", code=2)
    footnote("documents", "delete", "x", "--source", "*", code=2)
    footnote("documents", "delete", "--where", "[]", code=2)
    assert "document_not_found" in footnote("documents", "delete", "x", code=1).err
    assert "invalid_filter" in footnote("documents", "delete", "--where", '{"$x": 1}', "--yes", code=1).err


def test_a_collection_that_never_was_cannot_be_purged(footnote: Footnote) -> None:
    assert "collection_not_found" in footnote("documents", "purge", "--collection", "zz", code=1).err
