"""The tree of an evaluated collection: grown once, kept, and searched in both modes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from indexing.encoding.fake import WordEncoder
from retrievers.evaluation.evaluation import evaluate
from retrievers.evaluation.system import System

WORDS = ("river boat harbour", "bread oven flour", "engine piston valve", "violin string bow")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty short documents on four topics, and a question for each topic."""
    path = tmp_path / "small"
    (path / "qrels").mkdir(parents=True)
    documents = [
        {"_id": str(n), "title": f"t{n}", "text": f"The {WORDS[n % 4]} of part {n} is old. It is kept {n}."}
        for n in range(20)
    ]
    queries = [{"_id": f"q{n}", "text": f"{WORDS[n]} part {n}"} for n in range(4)]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\t{n}\t1" for n in range(4))]
    (path / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("mode", ["tree", "tree_traversal"])
def test_a_collection_is_searched_by_its_tree(folder: Path, tmp_path: Path, mode: str) -> None:
    result = evaluate(folder, System(mode=mode), encoder=WordEncoder(), work_dir=tmp_path / "work")
    assert result.n_queries == 4
    assert all(len(ranking) == 20 for ranking in result.run.values()), "every document is reached"
    grown = sorted((tmp_path / "work").rglob("children.json"))
    assert len(grown) == 1
    before = grown[0].stat().st_mtime_ns
    again = evaluate(folder, System(mode=mode), encoder=WordEncoder(), work_dir=tmp_path / "work")
    assert again.run == result.run
    assert grown[0].stat().st_mtime_ns == before
