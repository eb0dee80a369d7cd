"""Collections are read as they are written, or refused with the file, the line and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrievers.evaluation.beir import load_collection
from retrievers.evaluation.errors import EvaluationError
from tests.shared_data import require_shared
from tests.unit.retrievers_evaluation.collections import DOCUMENTS, QRELS, QUERIES, write_collection


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip"])
def test_collection_is_read_as_written(tmp_path: Path, gzipped: bool) -> None:
    collection = load_collection(write_collection(tmp_path / "fruit", gzipped=gzipped))
    assert (collection.name, collection.split) == ("fruit", "test")
    assert collection.queries == QUERIES
    assert collection.qrels == QRELS
    assert [(d.id, d.title, d.text) for d in collection.documents()] == list(DOCUMENTS)
    assert len(list(collection.documents())) == len(DOCUMENTS)


@pytest.mark.parametrize(
    ("there", "wanted", "chosen"),
    [
        (("train", "dev", "test"), None, "test"),
        (("train", "dev"), None, "dev"),
        (("train",), None, "train"),
        (("mine",), None, "mine"),
        (("train", "test"), "train", "train"),
    ],
)
def test_split(tmp_path: Path, there: tuple[str, ...], wanted: str | None, chosen: str) -> None:
    folder = write_collection(tmp_path, splits=dict.fromkeys(there, QRELS))
    assert load_collection(folder, wanted).split == chosen


def test_content_hash_follows_the_documents_alone(tmp_path: Path) -> None:
    first = load_collection(write_collection(tmp_path / "a"))
    queries = load_collection(write_collection(tmp_path / "b", queries={**QUERIES, "q9": "more"}))
    gzipped = load_collection(write_collection(tmp_path / "c", gzipped=True))
    other = load_collection(write_collection(tmp_path / "d", documents=DOCUMENTS[:3]))
    assert first.content_hash() == queries.content_hash() == gzipped.content_hash()
    assert first.content_hash() != other.content_hash()


def test_numbers_are_ids_too_and_headers_may_lack(tmp_path: Path) -> None:
    write_collection(tmp_path, splits={})
    (tmp_path / "corpus.jsonl").write_text('\ufeff{"_id": 7, "text": "x", "title": null}\n\n', "utf-8")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("q1\t7\t-1\r\n", "utf-8")
    collection = load_collection(tmp_path)
    assert [document.id for document in collection.documents()] == ["7"]
    assert collection.qrels == {"q1": {"7": -1}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("corpus.jsonl", None, "neither corpus.jsonl nor corpus.jsonl.gz"),
        ("queries.jsonl", None, "neither queries.jsonl nor queries.jsonl.gz"),
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n{broken', "line 2: not JSON"),
        ("corpus.jsonl", "[1]", "line 1: not a JSON object"),
        ("corpus.jsonl", '{"text": "x"}', "line 1: there is no _id"),
        ("corpus.jsonl", '{"_id": "a", "text": 5}', "line 1: title and text must be strings"),
        ("corpus.jsonl", b'{"_id": "a"}\n\xff\xfe', "line 2: not UTF-8"),
        ("corpus.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("queries.jsonl", '{"_id": "q1"}', "line 1: the query has no text"),
        ("queries.jsonl", '{"_id": "q1", "text": "a \\ud800"}', "line 1: the query holds half"),
        ("queries.jsonl", '{"_id": "q1", "text": "x"}', "lacks: q2, q3"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\thigh\n", "line 2: expected"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1 d1 1\n", "line 2: expected"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "has no judgments"),
        ("qrels/test.tsv", None, "there is no qrels/SPLIT.tsv"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str | bytes | None, message: str) -> None:
    path = write_collection(tmp_path) / name
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(EvaluationError, match=message):
        list(load_collection(tmp_path).documents())


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    folder = write_collection(tmp_path, gzipped=True)
    whole = (folder / "corpus.jsonl.gz").read_bytes()
    (folder / "corpus.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EvaluationError, match=r"corpus\.jsonl\.gz"):
        list(load_collection(folder).documents())


def test_unknown_split_lists_those_there(tmp_path: Path) -> None:
    folder = write_collection(tmp_path, splits={"train": QRELS, "dev": QRELS})
    with pytest.raises(EvaluationError, match=r"no split 'test'; there is dev, train\."):
        load_collection(folder, "test")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "split", "n_documents", "n_judged"),
    [
        ("cranfield", "test", 1400, 225),
        ("trecqa-train", "dev", 5659, 81),
        ("hotpotqa-100", "train", 994, 100),
    ],
)
def test_development_collections(name: str, split: str, n_documents: int, n_judged: int) -> None:
    collection = load_collection(require_shared(name))
    assert collection.split == split
    assert sum(1 for _ in collection.documents()) == n_documents
    assert len(collection.qrels) == n_judged
