"""`footnote tree`: grown, told, shown, removed."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Footnote
from tests.unit.app.test_trees import TOPICS, page


def test_a_tree_from_the_command_line(footnote: Footnote, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(14):
        (folder / f"page-{number}.md").write_text(page(TOPICS[number % 4], number, 1), "utf-8")
    footnote("ingest", folder)
    assert "tree_not_found" in footnote("tree", "status", code=1).err
    built = footnote.json("tree", "build")
    assert built["n_nodes"] == sum(built["levels"].values()) > 0
    assert built["behind"] == 0
    assert f"{built['n_nodes']} summaries" in footnote("tree", "status").out
    shown = footnote.json("tree", "show", "--depth", 2)["nodes"]
    assert sum(node["n_leaves"] for node in shown if node["depth"] == 0) >= 14
    assert "chunks: " in footnote("tree", "show").out
    assert footnote.json("search", "the oven", "--mode", "tree")["hits"]
    assert footnote("tree", "remove").out == f"{built['n_nodes']} summaries removed\n"
