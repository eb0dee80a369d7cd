"""`footnote tune`."""

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
    assert "collection_not_found" in footnote("tune", "--show", "-c", "nowhere", code=1).err
