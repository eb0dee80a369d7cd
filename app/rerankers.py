"""The rerankers that can be asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import InvalidRequest
from retrievers.base import Reranker

if TYPE_CHECKING:
    from app.settings import SearchSettings, Settings
    from indexing.encoding.base import Encoder
    from indexing.language_model import LanguageModel
    from retrievers.modes import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankParts:
    """What rerankers are made of: the index that is searched, its encoder, and where notes for people go.

    A note says what a result is not, where a reranker fell back; it is made once for each search.
    """

    settings: Settings
    resources: Resources
    encoder: Encoder
    language_model: LanguageModel | None
    note: Callable[[str], None]


Build = Callable[[RerankParts], Reranker]

RERANKERS: Mapping[str, Build] = {}
"""By name, in the order in which they are told to people."""


def chosen_reranker(settings: SearchSettings, asked: bool | str | None) -> str | None:
    """The name of the reranker asked for, where true is the one that is set.

    Raises InvalidRequest (`reranker_not_configured`) where none is set.
    """
    if asked is True:
        if not settings.reranker:
            raise InvalidRequest(
                "No reranker is set: set FOOTNOTE_SEARCH_RERANKER, or name one.",
                code="reranker_not_configured",
            )
        return settings.reranker
    return asked or None


def reranker(name: str, parts: RerankParts) -> Reranker:
    """The reranker of that name.

    Raises InvalidRequest: `unknown_reranker`, and `reranker_not_configured` or `llm_not_configured` where it
    lacks a setting.
    """
    build = RERANKERS.get(name)
    if build is None:
        known = ", ".join(RERANKERS) or "none is set up"
        raise InvalidRequest(f"There is no reranker {name!r}: {known}.", code="unknown_reranker")
    return build(parts)
