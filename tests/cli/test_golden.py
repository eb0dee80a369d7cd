"""`footnote golden`."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import Footnote


@pytest.fixture
def filled(footnote: Footnote, pages: Path) -> Footnote:
    footnote("ingest", pages)
    return footnote


def test_a_question_is_kept_shown_asked_and_removed(filled: Footnote, pages: Path) -> None:
    leases, question = pages / "leases.md", "when does the lease end"
    relative = os.path.relpath(leases)
    kept = filled.json(
        "golden", "add", question, "--source", relative, "--quote", "A job returns to the queue"
    )
    assert kept["expected"] == [{"source": str(leases), "quote": "A job returns to the queue"}]
    assert filled("golden", "add", question, "-s", leases).out == f"{kept['id']}: 2 expected\n"
    assert [item["id"] for item in filled.json("golden", "list")["data"]] == [kept["id"]]
    assert question.split()[0] in filled("golden", "list").out

    run = filled.json("golden", "run", "--mode", "bm25", "-k", 3)
    assert (run["recall"]["mean"], run["mrr"]["mean"], run["top_k"]) == (1.0, 1.0, 3)
    shown = filled("golden", "run").out
    assert "Recall@10: 1.000 (95 %: 1.000 to 1.000)" in shown
    assert "1 questions measured" in shown

    assert filled.json("golden", "remove", kept["id"]) == {"id": kept["id"], "deleted": True}
    assert filled.json("golden", "run")["recall"] is None
    assert "golden_question_not_found" in filled("golden", "remove", kept["id"], code=1).err


def test_two_versions_are_compared(filled: Footnote, pages: Path) -> None:
    filled("golden", "add", "lease", "--source", pages / "leases.md")
    other = filled.json("index", "build", "--no-activate")["id"]
    compared = filled.json("golden", "run", "--compare", other[:12])
    assert compared["compared"]["index_version"] == other != compared["index_version"]
    assert compared["recall_difference"]["difference"] == 0
    assert (
        "difference of Recall@10: +0.000 (95 %: +0.000 to +0.000, p = 1.000)"
        in filled("golden", "run", "--compare", other).out
    )
    assert "index_version_not_found" in filled("golden", "run", "--version", "nothing", code=1).err


def test_modes_are_compared_with_the_first(filled: Footnote, pages: Path) -> None:
    filled("golden", "add", "lease", "--source", pages / "leases.md")
    found = filled.json("golden", "run", "-m", "bm25", "-m", "dense", "-m", "rrf")
    assert (found["mode"], [run["mode"] for run in found["modes"]]) == ("bm25", ["dense", "rrf"])
    assert found["modes"][0]["recall_difference"]["n_queries"] == 1
    shown = filled("golden", "run", "-m", "bm25", "-m", "dense").out
    assert "dense against bm25, difference of Recall@10: +0.000" in shown
    filled("golden", "run", "-m", "bm25", "-m", "dense", "--compare", "0", code=2)


def test_what_is_exported_can_be_imported(filled: Footnote, pages: Path, tmp_path: Path) -> None:
    filled("golden", "add", "lease", "--source", pages / "leases.md", "--quote", "A job")
    filled("golden", "add", "tea", "--source", pages / "sub" / "tea.txt")
    lines = filled("golden", "export").out
    (tmp_path / "questions.jsonl").write_text(lines)
    before = filled.json("golden", "export")
    assert [json.loads(line)["question"] for line in lines.splitlines()] == ["lease", "tea"]
    assert filled.json("golden", "import", tmp_path / "questions.jsonl") == {"questions": 2}
    assert filled.json("golden", "export") == before
    for item in filled.json("golden", "list")["data"]:
        filled("golden", "remove", item["id"])
    filled("golden", "import", tmp_path / "questions.jsonl")
    assert filled.json("golden", "export") == before


def test_questions_are_generated_marked_and_removed_apart(filled: Footnote, pages: Path) -> None:
    filled("golden", "add", "lease", "--source", pages / "leases.md")
    shown = filled.json("golden", "generate", "-n", 4, "--dry-run")
    assert shown["kept"] is False
    assert len(filled.json("golden", "list")["data"]) == 1
    made = filled.json("golden", "generate", "-n", 4)
    assert made["questions"] == shown["questions"] != []
    kept = filled.json("golden", "list")["data"]
    assert [item["generator"] for item in kept] == [None] + ["sentences-1"] * len(made["questions"])
    run = filled.json("golden", "run", "--mode", "bm25")
    assert run["n_stale"] == 0
    assert run["recall"]["mean"] == 1.0
    assert filled("golden", "generate", "--remove-generated").out == f"{len(made['questions'])} removed\n"
    assert [item["question"] for item in filled.json("golden", "list")["data"]] == ["lease"]
    assert "llm_not_configured" in filled("golden", "generate", "--from", "llm", code=1).err
    filled("golden", "generate", "--from", "magic", code=2)


def test_wrong_usage_is_said(filled: Footnote, pages: Path, tmp_path: Path) -> None:
    filled("golden", "add", " ", "--source", pages / "leases.md", code=2)
    filled("golden", "add", "q", "--source", "a", "--source", "b", "--quote", "c", code=2)
    filled("golden", "run", "--mode", "magic", code=2)
    assert "document_not_found" in filled("golden", "add", "q", "--source", "no.md", code=1).err
    (tmp_path / "bad.csv").write_text("a,b\n")
    assert "invalid_golden_file" in filled("golden", "import", tmp_path / "bad.csv", code=1).err


@pytest.mark.parametrize("cell", ["a" * 200_000, "a\rb"])
def test_a_csv_file_that_cannot_be_read_is_refused_by_its_line(
    filled: Footnote, tmp_path: Path, cell: str
) -> None:
    csv.field_size_limit(131_072)  # loaders in this process may have raised it
    path = tmp_path / "questions.csv"
    path.write_bytes(f"question,source\nlease,leases.md\n{cell},leases.md\n".encode())
    refused = filled("golden", "import", path, code=1).err
    assert "line 3" in refused
    assert "invalid_golden_file" in refused
    assert filled.json("golden", "list")["data"] == []
