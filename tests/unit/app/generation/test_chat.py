"""Asking a server over real HTTP: what goes wrong has a name, and comes within the time allowed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from app.generation.answer import Usage
from app.generation.chat import ChatClient, ChatPart, ChatSettings
from app.generation.errors import (
    GenerationError,
    LlmBadResponse,
    LlmRateLimited,
    LlmRejected,
    LlmTimeout,
    LlmUnavailable,
)
from tests.llm_server import LlmServer, Reply

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
KEY = "sk-very-secret"
OK = Reply(text="Hello there.")


def client(server: LlmServer, **changes: Any) -> ChatClient:
    given = {"timeout_seconds": 5.0, "backoff_seconds": 0.01, "api_key": KEY, **changes}
    return ChatClient(ChatSettings(base_url=server.base_url, model="tiny", **given))


def ask(*script: Reply, **changes: Any) -> tuple[str, list[ChatPart], LlmServer]:
    with LlmServer(script) as server:
        parts = list(client(server, **changes).stream(MESSAGES))
    return "".join(part.text for part in parts), parts, server


def test_the_request_is_what_such_servers_take() -> None:
    _, _, server = ask(OK, temperature=0.5, max_tokens=77)
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.body == {
        "model": "tiny",
        "messages": MESSAGES,
        "temperature": 0.5,
        "max_tokens": 77,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_no_key_no_header() -> None:
    assert "Authorization" not in ask(OK, api_key=None)[2].requests[0].headers


def test_a_stream_is_read_as_it_comes() -> None:
    with LlmServer([Reply(text="Hello there.", pause_seconds=0.3)]) as server:
        started = time.monotonic()
        parts = client(server).stream(MESSAGES)
        assert next(parts).text == "Hell"
        assert time.monotonic() - started < 0.8  # the whole takes 0.9 s
        assert "".join(part.text for part in parts) == "o there."


def test_finish_reason_and_usage_are_kept() -> None:
    _, parts, _ = ask(OK)
    assert [part.finish_reason for part in parts if part.finish_reason] == ["stop"]
    assert [part.usage for part in parts if part.usage] == [Usage(prompt_tokens=120, completion_tokens=12)]


def test_a_server_that_does_not_stream_is_understood() -> None:
    assert ask(Reply(text="All at once.", stream=False))[0] == "All at once."


@pytest.mark.parametrize("stream", [True, False])
def test_a_server_that_does_not_stop_is_cut_off(stream: bool) -> None:
    text, parts, _ = ask(Reply(text="word " * 2000, piece_chars=1000, stream=stream), max_tokens=10)
    assert len(text) == 320
    assert parts[-1].finish_reason == "length"


def test_half_a_surrogate_pair_is_no_text() -> None:
    body = '{"choices": [{"message": {"content": "so \\ud800 so"}, "finish_reason": "stop"}]}'
    assert ask(Reply(body=body))[0] == "so ? so"


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(status=429, headers={"Retry-After": "0"}),
        Reply(status=429),
        Reply(status=429, headers={"Retry-After": "Thu, 01 Jan 2015 00:00:00 GMT"}),
        Reply(status=429, headers={"Retry-After": "soon"}),
        Reply(status=429, headers={"Retry-After": "nan"}),
        Reply(status=503, headers={"Retry-After": "0.01"}),
        Reply(status=500),
    ],
    ids=["429, 0 s", "429", "429, a date", "429, nonsense", "429, no number", "503, 0.01 s", "500"],
)
def test_a_passing_refusal_is_tried_again(refusal: Reply) -> None:
    text, _, server = ask(refusal, refusal, OK)
    assert (text, len(server.requests)) == ("Hello there.", 3)


def test_the_pause_asked_for_is_kept() -> None:
    started = time.monotonic()
    ask(Reply(status=429, headers={"Retry-After": "0.2"}), OK)
    assert 0.2 <= time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([Reply(status=429)], LlmRateLimited),
        ([Reply(status=500)], LlmUnavailable),
        ([Reply(status=502, body="<html>", content_type="text/html")], LlmUnavailable),
        ([Reply(status=401)], LlmRejected),
        ([Reply(status=400, body='{"error": "no"}')], LlmRejected),
        ([Reply(status=400, body="[" * 100_000)], LlmRejected),
        ([Reply(status=400, body=" " * 9_000_000)], LlmRejected),
        ([Reply(status=302, headers={"Location": "/elsewhere"})], LlmRejected),
        ([Reply(body="not json")], LlmBadResponse),
        ([Reply(body="[1]")], LlmBadResponse),
        ([Reply(body="[" * 100_000)], LlmBadResponse),
        ([Reply(body=" " * 9_000_000 + "{}")], LlmBadResponse),
        ([Reply(body='{"usage": {"prompt_tokens": Infinity, "completion_tokens": 1}}')], LlmBadResponse),
        ([Reply(body='{"choices": [7]}')], LlmBadResponse),
        ([Reply(body='{"choices": [{"message": {"content": 5}}]}')], LlmBadResponse),
        ([Reply(body="data: {oops\n\n", content_type="text/event-stream")], LlmBadResponse),
        ([Reply(body='data: {"error": {"code": 1}}\n\n', content_type="text/event-stream")], LlmBadResponse),
        ([Reply(body="", content_type="text/event-stream")], LlmBadResponse),
        ([Reply(text="x", stream=False, headers={"Content-Encoding": "gzip"})], LlmBadResponse),
        ([Reply(text="Half a sen", ending="no_mark")], LlmBadResponse),
        ([Reply(text="Half a sen", ending="broken")], LlmBadResponse),
    ],
)  # fmt: skip
def test_every_failure_has_a_name(script: list[Reply], error: type[GenerationError]) -> None:
    with pytest.raises(error) as caught:
        ask(*script)
    assert type(caught.value) is error
    assert caught.value.code.startswith("llm_")


def test_a_refusal_that_lasts_is_told_after_the_last_attempt() -> None:
    with LlmServer([Reply(status=429, headers={"Retry-After": "0"})]) as server:
        with pytest.raises(LlmRateLimited) as caught:
            list(client(server, max_attempts=2).stream(MESSAGES))
        assert len(server.requests) == 2
    assert caught.value.retry_after_seconds == 0


def test_a_pause_beyond_the_deadline_is_not_waited_for() -> None:
    started = time.monotonic()
    with pytest.raises(LlmRateLimited) as caught:
        ask(Reply(status=429, headers={"Retry-After": "60"}))
    assert caught.value.retry_after_seconds == 60
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text="x", silent_seconds=5),
        Reply(text="x" * 400, pause_seconds=0.05),
        Reply(text="x" * 400, stream=False, pause_seconds=0.05),
        Reply(status=500, body=" " * 400, pause_seconds=0.05),
    ],
    ids=["silent", "dripping", "dripping without a stream", "dripping refusal"],
)
def test_the_deadline_holds(reply: Reply) -> None:
    started = time.monotonic()
    with pytest.raises(LlmTimeout):
        ask(reply, timeout_seconds=0.2)
    assert time.monotonic() - started < 0.6


def test_nobody_listens() -> None:
    with LlmServer([OK]) as server:
        settings = ChatSettings(base_url=server.base_url, model="tiny", backoff_seconds=0.01)
    with pytest.raises(LlmUnavailable):
        list(ChatClient(settings).stream(MESSAGES))


@pytest.mark.parametrize("base_url", ["nonsense", "http://", "ftp://127.0.0.1/v1"])
def test_an_address_that_is_none(base_url: str) -> None:
    with pytest.raises(LlmUnavailable):
        list(ChatClient(ChatSettings(base_url=base_url, model="m", max_attempts=1)).stream(MESSAGES))


def test_the_key_and_the_servers_words_stay_out_of_messages() -> None:
    body = f'{{"error": {{"message": "Incorrect key {KEY}", "code": "invalid_api_key"}}}}'
    with pytest.raises(LlmRejected) as caught:
        ask(Reply(status=401, body=body))
    assert KEY not in caught.value.detail
    assert "invalid_api_key" in caught.value.detail
    assert KEY not in repr(ChatSettings(base_url="x", model="m", api_key=KEY))


def test_closing_the_stream_closes_the_connection() -> None:
    with LlmServer([Reply(text="x" * 4000, pause_seconds=0.01)]) as server:
        parts = client(server).stream(MESSAGES)
        next(parts)
        assert not server.was_left.is_set()
        parts.close()  # type: ignore[attr-defined]
        assert server.was_left.wait(5)


def test_events_without_choices_or_text_are_passed_over() -> None:
    body = (
        ": comment\n\n"
        'data: {"choices": []}\r\n\r\n'
        'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n\n'
        'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'
        "data: [DONE]"
    )
    assert ask(Reply(body=body, content_type="text/event-stream"))[0] == "Hi"
