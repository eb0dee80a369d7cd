"""The seam to a language model: text in, text out; nothing here knows a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation. What comes from a person or a document goes in as `user`, fenced."""

    role: Literal["system", "user", "assistant"]
    content: str


class LanguageModel(Protocol):
    """Completes conversations. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """Which model; two models of one name are taken to write the same."""

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        timeout_seconds: float,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        """What the model says next, stripped, maybe "" and maybe not what was asked for.

        The same arguments give the same text as far as the model allows. Raises LanguageModelError when there
        is no whole answer within `timeout_seconds`, waiting for a place and trying again included.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedLanguageModel:
    """A model one can follow by hand: `reply` makes the answer of the messages and the seed.

    >>> model = ScriptedLanguageModel(reply=lambda messages, seed: f"{messages[-1].content} {seed}")
    >>> model.complete([Message(role="user", content="Echo")], max_tokens=8, timeout_seconds=1, seed=3)
    'Echo 3'
    """

    reply: Callable[[Sequence[Message], int], str]
    name: str = "scripted"

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,  # noqa: ARG002
        timeout_seconds: float,  # noqa: ARG002
        temperature: float = 0.0,  # noqa: ARG002
        seed: int = 0,
    ) -> str:
        return self.reply(messages, seed).strip()
