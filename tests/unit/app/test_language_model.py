"""The language model over real HTTP: kept answers, places, deadlines, and each failure by its name."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.errors import InvalidRequest
from app.language_model import language_model, needed
from app.settings import LlmSettings
from indexing.errors import LanguageModelError
from indexing.language_model import LanguageModel, Message
from tests.llm_server import LlmServer, Reply

ASK = [Message(role="system", content="Be brief."), Message(role="user", content="Hello?")]


def model_of(server: LlmServer, **settings: Any) -> LanguageModel:
    return needed(language_model(LlmSettings(base_url=server.base_url, model="tiny", **settings)), "The test")


def ask(model: LanguageModel, **changes: Any) -> str:
    return model.complete(ASK, **{"max_tokens": 30, "timeout_seconds": 5.0, **changes})


def test_the_server_is_told_the_parameters() -> None:
    with LlmServer([Reply(text="Hi.")]) as server:
        assert ask(model_of(server), temperature=0.7, seed=11) == "Hi."
    body = server.requests[0].body
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("tiny", 30, 0.7, 11)
    assert body["messages"] == [{"role": m.role, "content": m.content} for m in ASK]


def test_the_thoughts_of_a_model_are_no_part_of_its_text() -> None:
    with LlmServer([Reply(text="<think>A greeting.</think>\n\nHi.")]) as server:
        assert ask(model_of(server)) == "Hi."


def test_what_was_asked_before_is_not_asked_again() -> None:
    with LlmServer([Reply(text="one"), Reply(text="two"), Reply(text="three")]) as server:
        model = model_of(server)
        assert [ask(model), ask(model), ask(model, seed=1), ask(model), ask(model, max_tokens=31)] == [
            "one",
            "one",
            "two",
            "one",
            "three",
        ]


def test_the_answer_used_longest_ago_is_forgotten_first() -> None:
    with LlmServer([Reply(text=text) for text in "abcd"]) as server:
        model = model_of(server, cache_entries=2)
        said = [ask(model, seed=seed) for seed in (0, 1, 0, 2, 0, 1)]
    assert said == ["a", "b", "a", "c", "a", "d"]


def test_a_failure_is_not_kept() -> None:
    with LlmServer([Reply(status=400), Reply(text="fine")]) as server:
        model = model_of(server)
        with pytest.raises(LanguageModelError):
            ask(model)
        assert ask(model) == "fine"


def test_a_server_that_asks_to_wait_is_waited_for() -> None:
    with LlmServer([Reply(status=429, headers={"Retry-After": "0.05"}), Reply(text="now")]) as server:
        assert ask(model_of(server)) == "now"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=429, headers={"Retry-After": "60"}), "rate_limited"),
        (Reply(status=503, headers={"Retry-After": "60"}), "unavailable"),
        (Reply(status=401), "unavailable"),
        (Reply(body="<html>", content_type="application/json"), "bad_response"),
        (Reply(text="half an ans", ending="broken"), "bad_response"),
    ],
    ids=["429", "503", "401", "html", "broken"],
)
def test_each_failure_has_its_name(reply: Reply, kind: str) -> None:
    with LlmServer([reply]) as server, pytest.raises(LanguageModelError) as raised:
        ask(model_of(server))
    assert (raised.value.kind, raised.value.code) == (kind, f"llm_{kind}")


def test_a_silent_server_is_left_in_time() -> None:
    started = time.monotonic()
    with LlmServer([Reply(silent_seconds=5)]) as server, pytest.raises(LanguageModelError) as raised:
        ask(model_of(server), timeout_seconds=0.2)
    assert raised.value.kind == "timeout"
    assert time.monotonic() - started < 1.5


def test_no_more_is_asked_at_once_than_is_allowed() -> None:
    most = busy = 0
    lock = threading.Lock()

    class Counting(LlmServer):
        def wait(self, seconds: float) -> None:
            nonlocal most, busy
            with lock:
                busy += 1
                most = max(most, busy)
            super().wait(0.03)
            with lock:
                busy -= 1

    with Counting([Reply(text="ok", piece_chars=50)]) as server, ThreadPoolExecutor(8) as pool:
        model = model_of(server, max_parallel=2)
        said = list(pool.map(lambda seed: ask(model, seed=seed), range(8)))
    assert said == ["ok"] * 8
    assert most == 2


def test_waiting_for_a_place_has_an_end() -> None:
    with LlmServer([Reply(silent_seconds=1.0, text="late")]) as server, ThreadPoolExecutor(1) as pool:
        model = model_of(server, max_parallel=1)
        first = pool.submit(ask, model)
        while not server.requests:
            time.sleep(0.005)
        with pytest.raises(LanguageModelError) as raised:
            ask(model, seed=1, timeout_seconds=0.1)
        assert raised.value.kind == "timeout"
        assert first.result() == "late"


def test_without_an_endpoint_it_says_what_to_set() -> None:
    assert language_model(LlmSettings()) is None
    with pytest.raises(InvalidRequest, match=r"hyde needs .*FOOTNOTE_LLM_BASE_URL") as raised:
        needed(None, "hyde")
    assert raised.value.code == "llm_not_configured"
