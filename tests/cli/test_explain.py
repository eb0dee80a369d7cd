"""`footnote explain`, `similar` and `tag` on a data folder with three pages."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Footnote


def test_explain_shows_lists_terms_and_tokens(library: Footnote) -> None:
    out = library("explain", "when does the lease end").out
    assert "best sentence: A job returns to the queue when its lease ends." in out
    for shown in ("leases.md", "bm25", "dense", "share", "MaxSim", "leas "):
        assert shown in out
    body = library.json("explain", "lease", "--mode", "hybrid", "-k", 1)
    assert body["document"] is None
    assert body["search"]["hits"][0]["explanation"]["places"]


def test_explain_says_why_a_document_is_no_hit(library: Footnote) -> None:
    out = library("explain", "when does the lease end", "-k", 1, "--document", "nowhere.md").out
    assert "nowhere.md: document_missing" in out
    arguments = ("explain", "lease ends", "-k", 1, "--filter", '{"kind": "song"}')
    assert library.json(*arguments, "--document", _source(library, "leases.md"))["document"] == {
        **library.json(*arguments, "--document", _source(library, "leases.md"))["document"],
        "reason": "filtered_out",
    }


def test_similar_takes_sources_and_texts(library: Footnote) -> None:
    body = library.json("similar", "--like", "green tea", "--and", "water || pot", "--not", "job", "-k", 1)
    assert body["hits"][0]["source"].endswith("tea.txt")
    assert [item["kind"] for item in body["items"]] == ["text"] * 4
    out = library("similar", "--like", _source(library, "leases.md"), "--by", "documents").out
    assert "document:" in out
    assert "like 1" in out
    library("similar", code=2)
    library("similar", "--like", "x", "--by", "pages", code=2)


def _source(library: Footnote, name: str) -> str:
    rows = library.json("documents", "list")["data"]
    return next(row["source"] for row in rows if row["source"].endswith(name))


def test_tag_writes_only_when_told_to(footnote: Footnote, pages: Path, tmp_path: Path) -> None:
    footnote("ingest", pages)
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"name": "lease", "description": "of a job"}\n\n{"name": "green tea", "prior": 0.5}\n')
    options = ("tag", labels, "--threshold", 0.3, "--write", "topics")
    out = footnote(*options, "--dry-run").out
    assert "lease" in out
    assert "0 written" in out
    assert all(row["metadata"] == {} for row in footnote.json("documents", "list")["data"])
    body = footnote.json(*options)
    assert sum(item["written"] for item in body["data"]) == 2
    topics = [row["metadata"].get("topics") for row in footnote.json("documents", "list")["data"]]
    assert sorted(map(str, topics)) == ["None", "['green tea']", "['lease']"]


def test_a_list_of_labels_that_cannot_be_read_is_wrong_usage(footnote: Footnote, tmp_path: Path) -> None:
    footnote("tag", tmp_path / "nowhere.txt", code=2)
    wrong = tmp_path / "labels.jsonl"
    wrong.write_text('{"name": "tea"}\n{"nom": "thé"}\n')
    assert "line 2" in footnote("tag", wrong, code=2).err
    wrong.write_text("[" * 100_000)
    assert "line 1" in footnote("tag", wrong, code=2).err
    wrong.write_bytes(b"caf\xe9")
    assert "not UTF-8" in footnote("tag", wrong, code=2).err
