"""`footnote train`, and `--rerank` of the commands that search."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from app.cli import training_run
from app.learning.training import export_collection
from app.services import open_services
from indexing.encoding.fake import WordEncoder
from tests.cli.conftest import Footnote
from tests.llm_server import LlmServer, Reply
from tests.service import settings_for
from tests.unit.retrievers.training.data import write_data
from tests.unit.retrievers_evaluation.collections import write_collection

FEW = ("--steps", 4, "--batch", 4, "--dim", 8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "made-up", n=40)


def test_a_rotation_is_trained_and_told(footnote: Footnote, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = footnote("train", "matryoshka", data, *FEW, "--out", out, "--licence", "made-up=CC0")
    assert f"FOOTNOTE_ENCODER_ROTATION={out}/rotation.npz" in done.out
    assert "made-up" in done.out
    assert np.load(out / "rotation.npz")["matrix"].shape == (64, 64)
    assert "| CC0 |" in (out / "README.md").read_text()
    assert "not empty" in footnote("train", "matryoshka", data, *FEW, "--out", out, code=1).err


def test_questions_are_made_from_texts_and_another_folder_is_measured(
    footnote: Footnote, data: Path, tmp_path: Path
) -> None:
    other = write_data(tmp_path / "other", n=25, seed=9)
    out = tmp_path / "out"
    said = footnote.json(
        "train",
        "matryoshka",
        data,
        *FEW,
        "--synthetic",
        36,
        "--measure",
        other,
        "--out",
        out,
        "--max-negative",
        1.5,
    )
    assert said["finished"]
    assert "- max_negative: 1.5" in (out / "README.md").read_text()
    assert set(said["measured"]) == {"made-up-synthetic", "other"}
    assert said["measured"]["other"]["n_queries"] > said["measured"]["made-up-synthetic"]["n_queries"] > 0


def test_ctrl_c_leaves_what_can_be_taken_up(
    footnote: Footnote, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    fit = training_run.train

    def interrupted(*arguments: object, **named: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return fit(*arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "train", interrupted)
        done = footnote("train", "matryoshka", data, *FEW, "--out", out, code=1)
    assert "Stopped after 1 steps" in done.out
    assert footnote.json("train", "matryoshka", data, *FEW, "--out", out, "--resume")["steps"] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["train", "late"], id="no data"),
        pytest.param(["train", "late", ".", "--distill", "magic"], id="distill"),
        pytest.param(["train", "cross-encoder", ".", "--licence", "CC0"], id="licence"),
        pytest.param(["search", "tea", "--rerank", "magic"], id="search"),
        pytest.param(["ask", "tea", "--rerank", "magic"], id="ask"),
        pytest.param(["diagnose", "--rerank", "magic"], id="diagnose"),
    ],
)
def test_wrong_usage(footnote: Footnote, arguments: list[str]) -> None:
    footnote(*arguments, code=2)


def test_a_collection_with_golden_questions_is_data(footnote: Footnote, pages: Path, tmp_path: Path) -> None:
    footnote("ingest", pages)
    footnote("golden", "add", "Who renews a lease?", "--source", pages / "leases.md")
    folder = tmp_path / "exported"
    settings = settings_for(footnote.home, f"sqlite:///{footnote.home / 'footnote.db'}")
    with open_services(settings, load=lambda _spec, _dir: WordEncoder()) as services:
        assert export_collection(services, "default", folder) == 1
    corpus = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    (query,) = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    (_, judged) = (folder / "qrels" / "train.tsv").read_text().splitlines()
    assert query["text"] == "Who renews a lease?"
    (found,) = [record for record in corpus if record["_id"] == judged.split("\t")[1]]
    assert "when its lease ends" in found["text"]
    assert len(corpus) == 3


def test_a_collection_without_texts_is_no_data(footnote: Footnote, tmp_path: Path) -> None:
    done = footnote("train", "late", "--collection", "default", "--out", tmp_path / "out", code=1)
    assert "(nothing_to_train_on)" in done.err


def test_a_search_is_reranked_and_notes_are_shown(library: Footnote, monkeypatch: pytest.MonkeyPatch) -> None:
    with LlmServer([Reply(text="[2] > [1]"), Reply(text="No."), Reply(text="[1]")]) as server:
        monkeypatch.setenv("FOOTNOTE_LLM_BASE_URL", server.base_url)
        monkeypatch.setenv("FOOTNOTE_LLM_MODEL", "tiny")
        former = [hit["source"] for hit in library.json("search", "lease worker", "-k", 2)["hits"]]
        turned = [
            hit["source"]
            for hit in library.json("search", "lease worker", "-k", 2, "--rerank", "llm")["hits"]
        ]
        noted = library("search", "lease worker", "--rerank", "llm")
        asked = library.json("ask", "who renews the lease", "--rerank", "llm", "--generator", "extractive")
    assert turned == former[::-1]
    assert "note: rerank: 1 replies" in noted.out
    assert all("rerank" in hit["scores"] for hit in asked["hits"])


def test_an_evaluation_measures_the_reranker(
    footnote: Footnote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_collection(tmp_path / "fruit")
    with LlmServer([Reply(text="[3] > [2] > [1]")]) as server:
        monkeypatch.setenv("FOOTNOTE_LLM_BASE_URL", server.base_url)
        monkeypatch.setenv("FOOTNOTE_LLM_MODEL", "tiny")
        (plain,) = footnote.json("eval", folder, "--mode", "bm25")["results"]
        (turned,) = footnote.json("eval", folder, "--mode", "bm25", "--rerank", "llm")["results"]
    assert turned["settings"]["rerank_k"] == 50
    assert turned["metrics"]["recall@100"] == plain["metrics"]["recall@100"]
    assert turned["metrics"]["ndcg@10"] != plain["metrics"]["ndcg@10"]
    monkeypatch.delenv("FOOTNOTE_LLM_BASE_URL")
    assert "(llm_not_configured)" in footnote("eval", folder, "--rerank", "llm", code=1).err
