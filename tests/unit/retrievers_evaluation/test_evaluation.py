"""A collection is indexed once, as ingested documents are, and every mode is measured on it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.fake import WordEncoder
from indexing.loaders.canonical import clean
from indexing.types import Encoding
from retrievers.evaluation.beir import load_collection
from retrievers.evaluation.collection_index import collection_chunks, document_names
from retrievers.evaluation.errors import EvaluationError
from retrievers.evaluation.evaluation import evaluate
from retrievers.evaluation.metrics import METRICS, mean_metrics, score_run
from retrievers.evaluation.system import System
from retrievers.modes import Tuning
from tests.encoders import CountingEncoder
from tests.shared_data import require_shared
from tests.unit.retrievers_evaluation.collections import DOCUMENTS, QRELS, write_collection

MODES = ("bm25", "rank_bm25", "dense", "hybrid", "rrf", "auto")
SMALL = ChunkerSpec(max_tokens=16, overlap_tokens=0, min_tokens=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "fruit")


def built(folder: Path) -> list[Path]:
    """What building left beside the locks."""
    return [path for path in (folder / "work").iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(folder: Path, tmp_path: Path, mode: str) -> None:
    result = evaluate(folder, System(mode=mode), encoder=WordEncoder(), work_dir=tmp_path / "work")
    assert (result.dataset, result.split, result.mode) == ("fruit", "test", mode)
    assert (result.n_queries, result.n_documents, result.n_chunks) == (3, 5, 5)
    assert result.run["q1"][0][0] == "d1"
    assert result.run["q2"][0][0] == "d2"
    assert set(result.metrics) == set(METRICS)
    assert result.metrics == mean_metrics(score_run(QRELS, result.run))
    assert result.metrics["mrr@10"] >= 2 / 3
    assert list(result.per_query["mrr@10"]) == ["q1", "q2", "q3"]


def test_what_is_set_of_retrieval_is_measured(folder: Path, tmp_path: Path) -> None:
    def ranking(mode: str, **tuning: float) -> list[str]:
        result = evaluate(
            folder,
            System(mode=mode, tuning=Tuning(**tuning)),  # type: ignore[arg-type]
            encoder=WordEncoder(),
            work_dir=tmp_path / "work",
        )
        assert result.settings["tuning"]["candidate_k"] == tuning.get("candidate_k", 100)
        return [document_id for document_id, _ in result.run["q1"]]

    assert ranking("hybrid", alpha=1.0) == ranking("dense")
    assert ranking("hybrid", alpha=0.0)[:1] == ranking("bm25")[:1]
    assert len(ranking("hybrid", candidate_k=1)) == 5


def test_json_holds_numbers_only(folder: Path, tmp_path: Path) -> None:
    result = evaluate(
        folder, System(mode="bm25"), encoder=WordEncoder(), work_dir=tmp_path / "work"
    ).to_json()
    assert json.loads(json.dumps(result)) == result
    assert set(result["latency_ms"]) == {"p50", "p95", "p99", "mean"}
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    assert {"run", "per_query"}.isdisjoint(result)
    assert {"dataset", "mode", "metrics", "encode_seconds", "index_seconds", "settings"} <= set(result)


def test_index_is_built_once_for_all_modes(folder: Path, tmp_path: Path) -> None:
    encoder = CountingEncoder()
    for mode in ("hybrid", "bm25", "dense"):
        evaluate(folder, System(mode=mode), encoder=encoder, work_dir=tmp_path / "work")
    assert encoder.n_documents == 5
    assert len(built(tmp_path)) == 1


def test_two_who_need_the_same_index_build_it_once(folder: Path, tmp_path: Path) -> None:
    encoder = CountingEncoder()
    with ThreadPoolExecutor(2) as threads:
        runs = [
            threads.submit(evaluate, folder, System(mode=mode), encoder=encoder, work_dir=tmp_path / "work")
            for mode in ("bm25", "rank_bm25")
        ]
        assert [run.result().n_chunks for run in runs] == [5, 5]
    assert encoder.n_documents == 5


def test_bm25_encodes_no_query(folder: Path, tmp_path: Path) -> None:
    encoder = CountingEncoder()
    evaluate(folder, System(mode="bm25"), encoder=encoder, work_dir=tmp_path / "work")
    assert encoder.n_queries == 0


@pytest.mark.parametrize("changed", ["documents", "encoder", "chunker"])
def test_index_is_built_anew_when_anything_changes(folder: Path, tmp_path: Path, changed: str) -> None:
    evaluate(folder, System(mode="dense"), encoder=WordEncoder(), work_dir=tmp_path / "work")
    if changed == "documents":
        write_collection(folder, documents=(*DOCUMENTS, ("d6", "More", "Something about pears.")))
    encoder = CountingEncoder(dim=32 if changed == "encoder" else 64)
    spec = SMALL if changed == "chunker" else None
    evaluate(folder, System(mode="dense"), encoder=encoder, chunker_spec=spec, work_dir=tmp_path / "work")
    assert encoder.n_documents >= 5


def test_damaged_index_is_built_anew(folder: Path, tmp_path: Path) -> None:
    first = evaluate(folder, System(mode="hybrid"), encoder=WordEncoder(), work_dir=tmp_path / "work")
    (directory,) = built(tmp_path)
    (directory / "version" / "manifest.json").write_text("{", "utf-8")
    again = evaluate(folder, System(mode="hybrid"), encoder=WordEncoder(), work_dir=tmp_path / "work")
    assert again.metrics == first.metrics


def test_build_that_fails_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    class Broken(WordEncoder):
        def encode_documents(self, texts, **given) -> Encoding:
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        evaluate(folder, System(mode="dense"), encoder=Broken(), work_dir=tmp_path / "work")
    assert built(tmp_path) == []


def test_long_documents_count_once_and_all_are_found(tmp_path: Path) -> None:
    """Many chunks of one document must not push the other documents out of the result."""
    long = " ".join(f"The apple number {number} is red." for number in range(300))
    others = tuple((f"s{number}", "", f"One apple and word{number}.") for number in range(20))
    folder = write_collection(
        tmp_path / "c",
        documents=(("long", "", long), *others),
        queries={"q": "red apple"},
        splits={"test": {"q": {"s7": 1}}},
    )
    for mode in ("bm25", "dense", "hybrid"):
        result = evaluate(
            folder,
            System(mode=mode),
            encoder=WordEncoder(),
            chunker_spec=SMALL,
            work_dir=tmp_path / "w",
            top_k=20,
        )
        names = [name for name, _ in result.run["q"]]
        assert len(names) == len(set(names)) == 20
        assert names[0] == "long"


def test_title_stands_in_for_a_missing_text(folder: Path, tmp_path: Path) -> None:
    write_collection(folder, queries={"q": "title about sailing"}, splits={"test": {"q": {"d5": 1}}})
    result = evaluate(folder, System(mode="bm25"), encoder=WordEncoder(), work_dir=tmp_path / "work")
    assert result.metrics["mrr@10"] == 1.0


def test_limit_takes_the_first_judged_queries(folder: Path, tmp_path: Path) -> None:
    result = evaluate(folder, System(mode="bm25"), encoder=WordEncoder(), work_dir=tmp_path / "work", limit=2)
    assert list(result.run) == ["q1", "q2"]
    assert result.n_queries == 2


def test_own_id_is_kept_unless_asked(tmp_path: Path) -> None:
    folder = write_collection(
        tmp_path / "c", queries={"d1": "red apples"}, splits={"test": {"d1": {"d4": 1}}}
    )
    given = {"system": System(mode="bm25"), "encoder": WordEncoder(), "work_dir": tmp_path / "work"}
    assert [name for name, _ in evaluate(folder, **given).run["d1"]] == ["d1", "d4"]
    kept = evaluate(folder, **given, exclude_own_id=True, top_k=1)
    assert [name for name, _ in kept.run["d1"]] == ["d4"]


def test_progress_is_told(folder: Path, tmp_path: Path) -> None:
    told = []
    evaluate(
        folder,
        System(mode="dense"),
        encoder=WordEncoder(),
        work_dir=tmp_path / "work",
        progress=lambda stage, done, total: told.append((stage, done, total)),
    )
    assert told[0] == ("encode", 5, 5)
    assert told[-1] == ("search", 3, 3)


def test_chunks_point_into_the_cleaned_text(folder: Path) -> None:
    collection = load_collection(folder)
    names = document_names(collection)
    texts = {document.id: clean(document.text) or document.title for document in collection.documents()}
    chunks = list(collection_chunks(collection, Chunker(SMALL, WordEncoder().count_tokens)))
    assert {names[chunk.document_id] for chunk in chunks} == set(texts)
    for chunk in chunks:
        assert chunk.text.endswith(texts[names[chunk.document_id]][chunk.start : chunk.end])
        assert chunk.n_tokens <= SMALL.max_tokens


def test_unknown_mode_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no mode 'magic'; the modes are "):
        evaluate(tmp_path / "absent", System(mode="magic"), encoder=WordEncoder(), work_dir=tmp_path)


def test_collection_without_texts_is_refused(tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "files", documents=(("d1", "A file", ""), ("d2", "Another", " ")))
    with pytest.raises(EvaluationError, match="no document has a text"):
        evaluate(folder, System(mode="bm25"), encoder=WordEncoder(), work_dir=tmp_path / "work")


def test_document_given_twice_is_refused(tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "twice", documents=(DOCUMENTS[0], DOCUMENTS[0]))
    with pytest.raises(EvaluationError, match="d1 is there twice"):
        evaluate(folder, System(mode="bm25"), encoder=WordEncoder(), work_dir=tmp_path / "work")


@pytest.mark.shared
def test_bm25_on_a_development_collection(tmp_path: Path) -> None:
    """Another library has .491 on whole documents (bm25s, k1 .9, b .4); parameters and chunks differ here."""
    result = evaluate(
        require_shared("cranfield"), System(mode="bm25"), encoder=WordEncoder(), work_dir=tmp_path / "work"
    )
    assert (result.n_queries, result.n_documents) == (225, 1400)
    assert result.metrics["ndcg@10"] > 0.49
