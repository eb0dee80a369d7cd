"""`footnote tune` and `footnote diagnose`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Footnote


def test_a_collection_is_tuned_shown_and_reset(footnote: Footnote, pages: Path) -> None:
    assert "no_questions" in footnote("tune", "--mode", "hybrid", code=1).err
    footnote("ingest", pages)
    footnote("golden", "add", "lease", "--source", pages / "leases.md")
    found = footnote.json("tune", "--mode", "hybrid")
    assert (found["decision"]["verdict"], found["kept"]) == ("too_few_questions", False)
    assert "not adopted: there are too few questions" in footnote("tune", "--mode", "hybrid").out
    assert footnote.json("tune", "--show") == {"tuning": None}
    assert footnote("tune", "--reset").out == "nothing was adopted\n"
    footnote("tune", "--mode", "magic", code=2)
    footnote("tune", "--show", "--reset", code=2)
    fused = footnote.json("tune", "--fuse", "bm25,dense", "--fusion", "convex")
    assert (fused["mode"], fused["decision"]["verdict"]) == ("fused", "too_few_questions")
    assert sum(fused["decision"]["chosen"].values()) == 1
    assert "best of all: bm25" in footnote("tune", "--mode", "fused").out
    assert "--fuse" in footnote("tune", "--fuse", "bm25,magic", code=2).err
    assert "nothing_to_tune" in footnote("tune", "--fuse", "bm25", code=1).err
    assert "collection_not_found" in footnote("tune", "--show", "-c", "nowhere", code=1).err


def test_questions_are_diagnosed(footnote: Footnote, pages: Path, tmp_path: Path) -> None:
    footnote("ingest", pages)
    footnote("golden", "add", "lease", "--source", pages / "leases.md")
    assert footnote.json("diagnose", "--only-search")["summary"]["n_right"] == 1
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "who paints", "answer": "purple elephants"}\n')
    found = footnote.json("diagnose", questions)
    assert [item["cause"] for item in found["questions"]] == ["FP1"]
    assert found["summary"]["counts"]["FP1"] == 1
    shown = footnote("diagnose", questions, "--generator", "extractive").out
    assert "missing content" in shown
    assert "0 of 1 questions went well" in shown
    questions.write_text("{")
    assert "invalid_questions_file" in footnote("diagnose", questions, code=1).err
    footnote("diagnose", questions, "--mode", "magic", code=2)
    footnote("diagnose", questions, "--generator", "magic", code=2)
