"""Errors of writing an answer.

GenerationError            `code` is stable, the message is for a person and holds no key and no passage
├── LlmTimeout             llm_timeout: no connection, no bytes or no end within the time allowed
├── LlmRateLimited         llm_rate_limited: 429 while attempts and time lasted
├── LlmUnavailable         llm_unavailable: no connection, or 5xx, while attempts and time lasted
├── LlmRejected            llm_rejected: another 4xx: a wrong key, an unknown model, a prompt too long
└── LlmBadResponse         llm_bad_response: not what an OpenAI-compatible server sends, or cut off midway
"""

from __future__ import annotations


class GenerationError(Exception):
    """Base of every error of writing an answer."""

    code = "generation_error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class LlmTimeout(GenerationError):
    """The language model took longer than allowed."""

    code = "llm_timeout"


class LlmRateLimited(GenerationError):
    """The language model's server refuses more requests for now; `retry_after_seconds` when it says so."""

    code = "llm_rate_limited"

    def __init__(self, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class LlmUnavailable(GenerationError):
    """The language model's server cannot be reached or fails; `retry_after_seconds` when it says so."""

    code = "llm_unavailable"

    def __init__(self, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class LlmRejected(GenerationError):
    """The language model's server refused the request, and would again."""

    code = "llm_rejected"


class LlmBadResponse(GenerationError):
    """The server sent something else than an OpenAI-compatible completion."""

    code = "llm_bad_response"
