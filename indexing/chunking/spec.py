"""What decides where a text is cut."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import blake2b

SPECIAL_TOKENS = 2
"""A begin and an end token, which the encoder puts around every text."""

DEFAULT_MAX_TOKENS = 256
DEFAULT_OVERLAP_TOKENS = 32
DEFAULT_MIN_TOKENS = 64

_RULES = 1
"""Raised whenever the rules cut the same text in another way, so that old chunks are not mixed in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkerSpec:
    """Sizes in tokens of the encoder.

    `max_tokens` is the longest chunk with its headings and two special tokens, so it may be as large as the
    encoder's window. `overlap_tokens` bounds the whole sentences repeated where a paragraph is cut in two.
    Neighbouring sections shorter than `min_tokens` share a chunk.
    """

    max_tokens: int = DEFAULT_MAX_TOKENS
    overlap_tokens: int = DEFAULT_OVERLAP_TOKENS
    min_tokens: int = DEFAULT_MIN_TOKENS

    def __post_init__(self) -> None:
        if self.max_tokens < 16:
            raise ValueError("max_tokens must be at least 16")
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            raise ValueError("overlap_tokens must lie between 0 and half of max_tokens")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise ValueError("min_tokens must lie between 0 and max_tokens")

    @property
    def text_tokens(self) -> int:
        """Room for headings and text."""
        return self.max_tokens - SPECIAL_TOKENS

    @property
    def heading_tokens(self) -> int:
        """Room for the headings: at most a quarter."""
        return self.text_tokens // 4

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that changes a chunk."""
        parts = json.dumps({"rules": _RULES, **asdict(self)}, sort_keys=True)
        return blake2b(parts.encode(), digest_size=8).hexdigest()
