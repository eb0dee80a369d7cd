"""What every `Reranker` must do."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexing.language_model import ScriptedLanguageModel
from retrievers.base import Reranker
from retrievers.reranking.cross_encoder import CrossEncoderReranker, load_cross_encoder
from retrievers.reranking.listwise import LlmReranker
from retrievers.types import Query
from tests.unit.retrievers.reranking.passages import ids, passages_of
from tests.unit.retrievers.reranking.tiny_cross_encoder import save_tiny_cross_encoder

QUERY = Query(text="red river")
TEXTS = ("the red apple", "", "an old river in the east", "stone", "the red apple", "!?", "blue sky")


class RerankerContract:
    """Passages in, the same passages out, in an order that depends on them and the query alone."""

    @pytest.fixture
    def reranker(self) -> Reranker:
        raise NotImplementedError

    def test_every_passage_comes_out_once(self, reranker: Reranker) -> None:
        found = reranker.rerank(QUERY, passages_of(*TEXTS), 100)
        assert sorted(ids(found)) == list(range(1, len(TEXTS) + 1))
        assert [passage.rank for passage in found] == list(range(1, len(TEXTS) + 1))

    def test_fewer_are_the_first_of_more(self, reranker: Reranker) -> None:
        passages = passages_of(*TEXTS)
        assert ids(reranker.rerank(QUERY, passages, 3)) == ids(reranker.rerank(QUERY, passages, 7))[:3]

    def test_scores_fall_within_0_and_1(self, reranker: Reranker) -> None:
        scores = [passage.score for passage in reranker.rerank(QUERY, passages_of(*TEXTS), 7)]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)

    def test_its_score_stands_beside_those_of_retrieval(self, reranker: Reranker) -> None:
        for passage in reranker.rerank(QUERY, passages_of(*TEXTS), 7):
            assert passage.scores == {"bm25": 10.0 - passage.chunk.id, "rerank": passage.score}

    def test_what_is_given_stays_as_it_was(self, reranker: Reranker) -> None:
        passages = passages_of(*TEXTS)
        reranker.rerank(QUERY, passages, 7)
        assert passages == passages_of(*TEXTS)

    def test_again_is_the_same(self, reranker: Reranker) -> None:
        first = reranker.rerank(QUERY, passages_of(*TEXTS), 7)
        assert reranker.rerank(QUERY, passages_of(*TEXTS), 7) == first

    def test_no_passages(self, reranker: Reranker) -> None:
        assert reranker.rerank(QUERY, [], 5) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_cross_encoder(tmp_path_factory.mktemp("model"))


class TestCrossEncoderReranker(RerankerContract):
    @pytest.fixture
    def reranker(self, folder: Path) -> Reranker:
        return CrossEncoderReranker(load_cross_encoder(str(folder), device="cpu"), seconds=60)


class TestLlmReranker(RerankerContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        model = ScriptedLanguageModel(reply=lambda _messages, _seed: "[3] > [2] > [9]")
        return LlmReranker(model, seconds=60, window=4, step=2)
