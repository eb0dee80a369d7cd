"""Asking a language model several things at once, within one time limit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from indexing.errors import LanguageModelError
from indexing.language_model import LanguageModel, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a transformation asks: `seconds` are for all of its calls together, which run side by side.

    Call number i has the seed `seed + i`.
    """

    model: LanguageModel
    seconds: float = 10.0
    max_tokens: int = 256
    seed: int = 0

    def all(
        self, prompts: Sequence[Sequence[Message]], *, temperature: float
    ) -> list[str | LanguageModelError]:
        """For each prompt the model's text, or why there is none; after `seconds` the late ones are left."""
        end = time.monotonic() + self.seconds
        pool = ThreadPoolExecutor(max(len(prompts), 1), thread_name_prefix="ask")
        try:
            calls = [
                pool.submit(self._one, messages, number, temperature, end)
                for number, messages in enumerate(prompts)
            ]
            wait(calls, timeout=self.seconds)
            return [self._outcome(call) for call in calls]
        finally:
            # Not waited for: a call that is under way knows its own limit.
            pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, messages: Sequence[Message], number: int, temperature: float, end: float) -> str:
        return self.model.complete(
            messages,
            max_tokens=self.max_tokens,
            timeout_seconds=max(end - time.monotonic(), 0.001),
            temperature=temperature,
            seed=self.seed + number,
        )

    def _outcome(self, call: Future[str]) -> str | LanguageModelError:
        if not call.done():
            return LanguageModelError(
                "timeout", f"The language model did not finish within {self.seconds:g} s."
            )
        error = call.exception()
        if error is None:
            return call.result()
        if isinstance(error, LanguageModelError):
            return error
        raise error
