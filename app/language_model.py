"""The language model of the settings, for transformations, rerankers, summaries and questions at ingest.

Answers are written by `app.generation`, which streams; here a whole text is asked for and kept.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from app.errors import InvalidRequest
from app.generation.chat import ChatClient, ChatSettings
from app.generation.errors import (
    GenerationError,
    LlmBadResponse,
    LlmRateLimited,
    LlmRejected,
    LlmTimeout,
    LlmUnavailable,
)
from app.generation.openai_compatible import without_thoughts
from app.settings import LlmSettings
from indexing.errors import LanguageModelError, LanguageModelErrorKind
from indexing.language_model import LanguageModel, Message

KINDS: dict[type[GenerationError], LanguageModelErrorKind] = {
    LlmTimeout: "timeout",
    LlmRateLimited: "rate_limited",
    LlmUnavailable: "unavailable",
    LlmRejected: "unavailable",
    LlmBadResponse: "bad_response",
}


class ChatLanguageModel:
    """Asks a server; keeps the last `cache_entries` answers, and asks `max_parallel` times at once at most.

    An answer is kept under the model, the messages and the parameters: the text of the prompt is part of the
    key, so that a prompt that is worded anew asks anew. Answers cut off at `max_tokens` count as answers.
    """

    def __init__(self, client: ChatClient, *, model: str, max_parallel: int, cache_entries: int) -> None:
        self._client = client
        self._model = model
        self._places = threading.BoundedSemaphore(max_parallel)
        self._cache = _Cache(cache_entries)

    @property
    def name(self) -> str:
        return self._model

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        timeout_seconds: float,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        key = (self._model, tuple(messages), max_tokens, temperature, seed)
        kept = self._cache.get(key)
        if kept is not None:
            return kept
        end = time.monotonic() + timeout_seconds
        if not self._places.acquire(timeout=timeout_seconds):
            raise LanguageModelError("timeout", "No place to ask the language model was free in time.")
        try:
            client = self._client.with_settings(
                max_tokens=max_tokens,
                temperature=temperature,
                seed=seed,
                timeout_seconds=max(end - time.monotonic(), 0.001),
            )
            text = _whole(client, messages)
        finally:
            self._places.release()
        self._cache.put(key, text)
        return text


def _whole(client: ChatClient, messages: Sequence[Message]) -> str:
    said = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return "".join(without_thoughts(part.text for part in client.stream(said))).strip()
    except GenerationError as error:
        raise LanguageModelError(KINDS.get(type(error), "unavailable"), error.detail) from error


class _Cache:
    """The texts used last, by key. Safe to use from several threads."""

    def __init__(self, n_entries: int) -> None:
        self._n_entries = n_entries
        self._texts: OrderedDict[Hashable, str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> str | None:
        with self._lock:
            if key in self._texts:
                self._texts.move_to_end(key)
            return self._texts.get(key)

    def put(self, key: Hashable, text: str) -> None:
        with self._lock:
            self._texts[key] = text
            self._texts.move_to_end(key)
            while len(self._texts) > self._n_entries:
                self._texts.popitem(last=False)


def language_model(settings: LlmSettings) -> LanguageModel | None:
    """The model of the settings; None when no endpoint is set."""
    if not settings.base_url:
        return None
    client = ChatClient(
        ChatSettings(
            base_url=settings.base_url,
            model=settings.model,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        )
    )
    return ChatLanguageModel(
        client,
        model=settings.model,
        max_parallel=settings.max_parallel,
        cache_entries=settings.cache_entries,
    )


def needed(model: LanguageModel | None, what: str) -> LanguageModel:
    """The model, for `what` that cannot do without.

    Raises InvalidRequest (`llm_not_configured`).
    """
    if model is None:
        raise InvalidRequest(
            f"{what} needs a language model: set FOOTNOTE_LLM_BASE_URL and FOOTNOTE_LLM_MODEL "
            "to an OpenAI-compatible endpoint.",
            code="llm_not_configured",
        )
    return model
