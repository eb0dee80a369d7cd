"""The protocol of query transformation: one query in, one or several to search with out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from indexing.errors import LanguageModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A text to search with. The vector is the mean of the text's and of the hypothetical `passages`'."""

    text: str
    weight: float = 1.0
    passages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformed:
    """What to search with instead of the query, at least one.

    `name` is the transformation's; `note` says what a reader should know, as why it fell back.
    """

    variants: tuple[Variant, ...]
    name: str = ""
    note: str | None = None


class Transformation(Protocol):
    """Safe to call from several threads. A model that fails or is late leaves the plain query, and a note."""

    @property
    def name(self) -> str: ...

    def transform(self, text: str) -> Transformed: ...


def fallen_back(name: str, text: str, outcomes: Sequence[str | LanguageModelError]) -> Transformed:
    """The query as it is, and in the note why: the first error, or that the model wrote nothing usable."""
    error = next((outcome for outcome in outcomes if isinstance(outcome, LanguageModelError)), None)
    why = "the language model wrote nothing usable." if error is None else f"{error.code}: {error.detail}"
    return Transformed(
        name=name, variants=(Variant(text=text),), note=f"{name}: {why} The query was searched as it is."
    )
