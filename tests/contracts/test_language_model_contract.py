"""What every language model keeps to, the fake that ships and the one over HTTP alike."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.language_model import language_model
from app.settings import LlmSettings
from indexing.language_model import LanguageModel, Message, ScriptedLanguageModel
from tests.llm_server import LlmServer, Reply

ECHO = [Message(role="system", content="Repeat."), Message(role="user", content="to be repeated")]


class LanguageModelContract:
    """`model` says back what the user said, with blank space around it."""

    def test_it_has_a_name(self, model: LanguageModel) -> None:
        assert model.name == model.name.strip() != ""

    def test_the_text_comes_without_blank_space_around_it(self, model: LanguageModel) -> None:
        assert model.complete(ECHO, max_tokens=20, timeout_seconds=5) == "to be repeated"

    def test_the_same_question_has_the_same_answer(self, model: LanguageModel) -> None:
        said = [model.complete(ECHO, max_tokens=20, timeout_seconds=5, seed=7) for _ in range(3)]
        assert len(set(said)) == 1

    def test_it_answers_several_threads(self, model: LanguageModel) -> None:
        def ask(number: int) -> str:
            messages = [Message(role="user", content=f"number {number}")]
            return model.complete(messages, max_tokens=20, timeout_seconds=5)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(16))) == [f"number {number}" for number in range(16)]


class TestScripted(LanguageModelContract):
    @pytest.fixture
    def model(self) -> LanguageModel:
        return ScriptedLanguageModel(reply=lambda messages, _seed: f"\n {messages[-1].content} \n")


class TestOverHttp(LanguageModelContract):
    @pytest.fixture
    def model(self) -> Iterator[LanguageModel]:
        with LlmServer([Reply(echo_prompt=True)]) as server:
            model = language_model(LlmSettings(base_url=server.base_url, model="tiny"))
            assert model is not None
            yield model
