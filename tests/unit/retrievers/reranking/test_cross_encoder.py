"""The cross-encoder reranker over a checkpoint on disk, against one pair at a time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from indexing.errors import EncoderError
from retrievers.reranking.calibration import Calibration
from retrievers.reranking.cross_encoder import CrossEncoderModel, CrossEncoderReranker, load_cross_encoder
from retrievers.types import Query
from tests.unit.indexing.encoding.tiny_model import WORDS, save_tiny_model
from tests.unit.retrievers.reranking.passages import ids, passages_of
from tests.unit.retrievers.reranking.tiny_cross_encoder import save_tiny_cross_encoder

QUERY = Query(text="red apple tree")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_cross_encoder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder: Path) -> CrossEncoderModel:
    return load_cross_encoder(str(folder), device="cpu")


def texts(n: int, longest: int = 12, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size)) for size in rng.integers(2, longest, n)]


def one_at_a_time(folder: Path, query: str, text: str) -> float:
    """The logit of a pair, by transformers alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    head = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return float(head(**tokenizer(query, text, truncation=True, return_tensors="pt")).logits[0, 0])


def test_the_order_is_that_of_the_logits_one_pair_at_a_time(folder: Path, model: CrossEncoderModel) -> None:
    passages = passages_of(*texts(9))
    reranked = CrossEncoderReranker(model, seconds=60).rerank(QUERY, passages, 5)
    logits = {p.chunk.id: one_at_a_time(folder, QUERY.text, p.chunk.text) for p in passages}
    assert ids(reranked) == sorted(logits, key=lambda key: (-logits[key], key))[:5]
    assert [p.rank for p in reranked] == [1, 2, 3, 4, 5]
    for passage in reranked:
        chance = 1 / (1 + np.exp(-logits[passage.chunk.id]))
        assert passage.score == passage.scores["rerank"] == pytest.approx(chance, abs=1e-4)
        assert passage.scores["bm25"] == 10.0 - passage.chunk.id


def test_a_long_passage_counts_by_its_best_window(folder: Path, model: CrossEncoderModel) -> None:
    words = texts(1, 12)[0].split() * 12
    long = " ".join(words)
    found, complete = model.logits(QUERY.text, [long])
    assert complete
    room = 40 - 3 - 3  # the window, the special tokens, the query
    step = room - room // 4
    starts = range(0, len(words) - room + step, step)
    windows = [" ".join(words[at : at + room]) for at in starts]
    assert len(windows) > 2
    best = max(one_at_a_time(folder, QUERY.text, window) for window in windows)
    assert found[0] == pytest.approx(best, abs=1e-4)


def test_a_query_longer_than_half_the_window_is_cut(folder: Path, model: CrossEncoderModel) -> None:
    query = " ".join(["red"] * 100)
    found, _ = model.logits(query, ["green apple"])
    assert found[0] == pytest.approx(one_at_a_time(folder, " ".join(["red"] * 18), "green apple"), abs=1e-4)


def test_passages_not_reached_in_time_keep_their_order_below(folder: Path) -> None:
    model = load_cross_encoder(str(folder), device="cpu")
    passages = passages_of(*texts(80, seed=3))
    notes: list[str] = []
    reranked = CrossEncoderReranker(model, seconds=1e-9, note=notes.append).rerank(QUERY, passages, 80)
    n_scored = sum("rerank" in p.scores for p in reranked)
    assert 0 < n_scored < 80
    assert notes == [f"rerank: {n_scored} of 80 passages within 1e-09 s"]
    scored, unscored = reranked[:n_scored], reranked[n_scored:]
    assert all(p.chunk.id <= 32 for p in scored), "the best of the former order come first"
    assert ids(unscored) == sorted(ids(unscored))
    assert all(p.score == 0 and "rerank" not in p.scores for p in unscored)
    assert sorted(ids(reranked)) == list(range(1, 81))


def test_a_model_in_use_leaves_the_former_order(model: CrossEncoderModel) -> None:
    notes: list[str] = []
    with model._turn:
        began = time.monotonic()
        reranked = CrossEncoderReranker(model, seconds=0.05, note=notes.append).rerank(
            QUERY, passages_of("a", "b", "c"), 2
        )
        assert time.monotonic() - began < 5
    assert ids(reranked) == [1, 2]
    assert [p.score for p in reranked] == [9.0, 8.0]
    assert notes == ["rerank: 0 of 3 passages within 0.05 s"]


def test_scores_are_kept_by_query_and_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_cross_encoder(str(folder), device="cpu")
    some = texts(5, seed=8)
    first, _ = model.logits("old river", some)
    monkeypatch.setattr(model._model, "predict", lambda *_, **__: pytest.fail("scored again"))
    again, complete = model.logits("old river", [*reversed(some)])
    assert complete
    assert again == {place: first[len(some) - 1 - place] for place in range(len(some))}


def test_no_passages(model: CrossEncoderModel) -> None:
    notes: list[str] = []
    assert CrossEncoderReranker(model, seconds=1, note=notes.append).rerank(QUERY, [], 5) == []
    assert notes == []


def test_the_calibration_in_the_folder_is_used(tmp_path: Path) -> None:
    folder = save_tiny_cross_encoder(tmp_path)
    Calibration(slope=2.0, intercept=-1.0).save(folder)
    model = load_cross_encoder(str(folder), device="cpu")
    (passage,) = CrossEncoderReranker(model, seconds=60).rerank(QUERY, passages_of("blue sky"), 1)
    logit = one_at_a_time(folder, QUERY.text, "blue sky")
    assert passage.score == pytest.approx(1 / (1 + np.exp(-(2 * logit - 1))), abs=1e-4)


def test_a_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="3 scores"):
        load_cross_encoder(str(save_tiny_cross_encoder(tmp_path, n_labels=3)), device="cpu")


def test_a_model_without_a_head_is_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    with pytest.raises(EncoderError, match="not a cross-encoder"):
        load_cross_encoder(str(tmp_path / "bare"), device="cpu")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="there is no folder"):
        load_cross_encoder(str(tmp_path / "nothing"))


def test_a_missing_hub_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(EncoderError, match="cannot be reached"):
        load_cross_encoder("no-such/model")
    assert time.monotonic() - began < 10
