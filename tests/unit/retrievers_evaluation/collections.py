"""Small collections on disk."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

DOCUMENTS = (
    ("d1", "Apples", "Red apples grow on trees. Green apples are sour."),
    ("d2", "Boats", "A boat with a sail crosses the lake. Rowing boats are slower."),
    ("d3", "Clouds", "Clouds bring rain. Rain fills the lake."),
    ("d4", "", "Trees give shade. Apples fall from trees in autumn."),
    ("d5", "Only a title about sailing", ""),
)
QUERIES = {"q1": "red apples", "q2": "boat with a sail", "q3": "nothing shared whatsoever", "q4": "unjudged"}
QRELS = {"q1": {"d1": 2, "d4": 1}, "q2": {"d2": 1, "d3": 0}, "q3": {"d3": 1}}


def write_collection(
    folder: Path,
    *,
    documents: tuple[tuple[str, str, str], ...] = DOCUMENTS,
    queries: Mapping[str, str] = QUERIES,
    splits: Mapping[str, Mapping[str, Mapping[str, int]]] | None = None,
    gzipped: bool = False,
) -> Path:
    """A collection in BEIR layout; `splits` gives each split its judgments."""
    corpus = [{"_id": name, "title": title, "text": text} for name, title, text in documents]
    _write(folder / "corpus.jsonl", "".join(json.dumps(record) + "\n" for record in corpus), gzipped)
    asked = [{"_id": name, "text": text} for name, text in queries.items()]
    _write(folder / "queries.jsonl", "".join(json.dumps(record) + "\n" for record in asked), gzipped)
    for split, qrels in ({"test": QRELS} if splits is None else splits).items():
        rows = [f"{query}\t{name}\t{grade}\n" for query in qrels for name, grade in qrels[query].items()]
        _write(folder / "qrels" / f"{split}.tsv", "query-id\tcorpus-id\tscore\n" + "".join(rows), gzipped)
    return folder


def _write(path: Path, text: str, gzipped: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if gzipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, "utf-8")
