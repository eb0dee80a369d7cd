"""The protocol of query transformation: one query in, one or several to search with out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A text to search with. The vector is the mean of the text's and of the hypothetical `passages`'."""

    text: str
    weight: float = 1.0
    passages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformed:
    """What to search with instead of the query, at least one; `note` says why a transformation fell back."""

    variants: tuple[Variant, ...]
    note: str | None = None


class Transformation(Protocol):
    """Safe to call from several threads. A model that fails or is late leaves the plain query, and a note."""

    @property
    def name(self) -> str: ...

    def transform(self, text: str) -> Transformed: ...
