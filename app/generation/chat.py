"""A client for the chat completions of an OpenAI-compatible server, streamed, within one deadline."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from math import isnan
from typing import Any

import httpx

from app.generation.answer import Usage
from app.generation.errors import (
    GenerationError,
    LlmBadResponse,
    LlmRateLimited,
    LlmRejected,
    LlmTimeout,
    LlmUnavailable,
)

_SAFE_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_LONGEST_EVENT = 1_000_000
_LONGEST_BODY = 8_000_000
_CHARS_A_TOKEN = 32
"""More than any text has on average; what lies beyond `max_tokens` of these was not asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """Where the model is and how it is asked. `base_url` ends in `/v1`, as a rule.

    `timeout_seconds` counts from the first request to the end of the answer, retries included; a server that
    keeps silent can stretch it by one more read, so by less than its double. `api_key` is sent as bearer
    token and kept out of `repr`, messages and logs.
    """

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    timeout_seconds: float = 60.0
    connect_seconds: float = 5.0
    max_attempts: int = 3
    backoff_seconds: float = 0.25
    temperature: float = 0.0
    max_tokens: int = 800
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPart:
    """What one event of a stream says; any field may be empty."""

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None


class Deadline:
    """A point in time by which work is to be done."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def check(self) -> None:
        """Raises LlmTimeout when it has passed."""
        if self.left <= 0:
            raise self.missed()

    def missed(self) -> LlmTimeout:
        return LlmTimeout(f"The language model did not finish within {self._seconds:g} s.")


class ChatClient:
    """Asks for completions, each over a connection of its own. Safe to call from several threads."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        # Reading the certificates takes longer than a request needs to open a connection.
        self._tls = httpx.create_ssl_context() if settings.base_url.startswith("https:") else False
        self._url = settings.base_url.rstrip("/") + "/chat/completions"

    def with_settings(self, **changes: Any) -> ChatClient:
        """A client of the same server that asks in another way."""
        other = copy.copy(self)
        other._settings = replace(self._settings, **changes)
        return other

    def stream(self, messages: Sequence[dict[str, str]]) -> Iterator[ChatPart]:
        """The parts of the completion as they arrive.

        A request that meets 429, 5xx or no connection is sent again while attempts and time last, after the
        pause that the server asks for. Once the first byte is there, nothing is sent again. A server that
        goes far beyond `max_tokens` is read no further, and the answer counts as cut off there.

        Raises:
            GenerationError: one of its kinds, see `app.generation.errors`.
        """
        deadline = Deadline(self._settings.timeout_seconds)
        for attempt in range(1, self._settings.max_attempts + 1):
            try:
                with self._open(messages, deadline) as response:
                    yield from _limited(_parts(response, deadline), self._settings.max_tokens)
                    return
            except (LlmRateLimited, LlmUnavailable) as refused:
                pause = self._pause(refused, attempt)
                if attempt == self._settings.max_attempts or pause >= deadline.left:
                    raise
            time.sleep(pause)

    def _pause(self, refused: GenerationError, attempt: int) -> float:
        asked = refused.retry_after_seconds if isinstance(refused, LlmRateLimited | LlmUnavailable) else None
        return self._settings.backoff_seconds * 2 ** (attempt - 1) if asked is None else asked

    @contextmanager
    def _open(self, messages: Sequence[dict[str, str]], deadline: Deadline) -> Iterator[httpx.Response]:
        deadline.check()
        left = deadline.left
        timeout = httpx.Timeout(left, connect=min(self._settings.connect_seconds, left))
        answering = False
        try:
            with (
                httpx.Client(verify=self._tls, timeout=timeout) as http,
                http.stream(
                    "POST", self._url, json=self._body(messages), headers=self._headers()
                ) as response,
            ):
                answering = True
                _check_plain(response)
                if not response.is_success:
                    raise _refusal(response, deadline)
                yield response
        except httpx.ConnectTimeout as exc:
            raise LlmTimeout("No connection to the language model's server in time.") from exc
        except httpx.TimeoutException as exc:
            raise deadline.missed() from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            if answering:
                raise LlmBadResponse("The language model's server broke off its answer.") from exc
            name = type(exc).__name__
            raise LlmUnavailable(f"The language model's server cannot be reached ({name}).") from exc

    def _headers(self) -> dict[str, str]:
        key = self._settings.api_key
        plain = {"Accept-Encoding": "identity"}
        return plain | {"Authorization": f"Bearer {key}"} if key else plain

    def _body(self, messages: Sequence[dict[str, str]]) -> dict[str, Any]:
        body = {
            "model": self._settings.model,
            "messages": list(messages),
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return body if self._settings.seed is None else body | {"seed": self._settings.seed}


def _check_plain(response: httpx.Response) -> None:
    """A few kilobytes of a compressed body can unpack to more than there is memory, so none is read."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise LlmBadResponse("The language model's server compressed its answer, which was not asked for.")


def _refusal(response: httpx.Response, deadline: Deadline) -> GenerationError:
    status = response.status_code
    said = _error_code(response, deadline)
    if status == 429:
        return LlmRateLimited(
            f"The language model's server refuses more requests for now (429{said}).",
            retry_after_seconds=_retry_after(response),
        )
    if status >= 500:
        return LlmUnavailable(
            f"The language model's server failed ({status}{said}).",
            retry_after_seconds=_retry_after(response),
        )
    return LlmRejected(f"The language model's server refused the request ({status}{said}).")


def _error_code(response: httpx.Response, deadline: Deadline) -> str:
    """The server's own short code. Its message stays out: it may repeat the key or the prompt."""
    try:
        error = json.loads(_body(response, deadline))["error"]
        codes = [error.get("code"), error.get("type")]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, LlmBadResponse):
        return ""
    return next((f", {code}" for code in codes if isinstance(code, str) and _SAFE_CODE.fullmatch(code)), "")


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        pass
    else:
        return None if isnan(seconds) else max(seconds, 0.0)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _parts(response: httpx.Response, deadline: Deadline) -> Iterator[ChatPart]:
    if "json" in response.headers.get("Content-Type", ""):  # a server that does not stream
        yield _part(_decoded(_body(response, deadline).decode(errors="replace")), "message")
        return
    ended = False
    for data in _events(response, deadline):
        if data == "[DONE]":
            return
        part = _part(_decoded(data), "delta")
        ended = ended or part.finish_reason is not None
        yield part
    if not ended:
        raise LlmBadResponse("The language model's answer was cut off.")


def _limited(parts: Iterator[ChatPart], max_tokens: int) -> Iterator[ChatPart]:
    """The parts until there is more text than so many tokens can hold."""
    left = max_tokens * _CHARS_A_TOKEN
    for part in parts:
        if len(part.text) > left:
            yield replace(part, text=part.text[:left], finish_reason="length")
            return
        left -= len(part.text)
        yield part


def _body(response: httpx.Response, deadline: Deadline) -> bytes:
    """The whole body of a response that is not a stream."""
    body = bytearray()
    for piece in response.iter_bytes():
        deadline.check()
        body += piece
        if len(body) > _LONGEST_BODY:
            raise LlmBadResponse("The language model's server sent more than any answer is long.")
    return bytes(body)


def _events(response: httpx.Response, deadline: Deadline) -> Iterator[str]:
    """The data of each server-sent event; one line each, as these servers send them."""
    kept = ""
    for text in response.iter_text():
        deadline.check()
        *lines, kept = (kept + text).replace("\r\n", "\n").split("\n")
        if len(kept) > _LONGEST_EVENT:
            raise LlmBadResponse("The language model's server sent an event without an end.")
        for line in lines:
            if line.startswith("data:"):
                yield line[5:].strip()
    if kept.startswith("data:"):
        yield kept[5:].strip()


def _decoded(data: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise LlmBadResponse("The language model's server sent something other than JSON.") from exc
    if not isinstance(value, dict):
        raise LlmBadResponse("The language model's server sent JSON of another shape.")
    if value.get("error"):
        raise LlmBadResponse("The language model's server reported an error amid its answer.")
    return value


def _part(value: dict[str, Any], field_name: str) -> ChatPart:
    """One event's text. Servers send events without choices, and choices without text; these are empty."""
    try:
        choices = value.get("choices") or [{}]
        text = (choices[0].get(field_name) or {}).get("content") or ""
        finish_reason = choices[0].get("finish_reason")
        usage = value.get("usage")
        counted = (
            Usage(
                prompt_tokens=int(usage["prompt_tokens"]), completion_tokens=int(usage["completion_tokens"])
            )
            if usage
            else None
        )
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError) as exc:
        raise LlmBadResponse("The language model's server sent JSON of another shape.") from exc
    if not isinstance(text, str):
        raise LlmBadResponse("The language model's server sent JSON of another shape.")
    # JSON can hold half of a surrogate pair, which no text can.
    readable = text.encode(errors="replace").decode()
    return ChatPart(text=readable, finish_reason=finish_reason, usage=counted)
