"""The rerankers that can be asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from app.errors import InvalidRequest
from app.language_model import needed
from retrievers.base import Reranker
from retrievers.reranking.cross_encoder import CrossEncoderModel, CrossEncoderReranker, load_cross_encoder
from retrievers.reranking.late import LateInteractionReranker
from retrievers.reranking.listwise import LlmReranker

if TYPE_CHECKING:
    from app.settings import RerankSettings, SearchSettings, Settings
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


@lru_cache(maxsize=2)
def _model(name: str, device: str, max_tokens: int | None, n_threads: int | None) -> CrossEncoderModel:
    """A cross-encoder that stays loaded, with the scores it gave."""
    return load_cross_encoder(name, device=device, max_tokens=max_tokens, n_threads=n_threads)


def _cross_encoder(parts: RerankParts) -> Reranker:
    settings = parts.settings.rerank
    name = _cross_encoder_name(settings)
    n_threads = parts.settings.encoder.n_threads
    model = _model(name, settings.device, settings.max_tokens, n_threads)
    return CrossEncoderReranker(model, seconds=settings.seconds, note=parts.note)


def _late(parts: RerankParts) -> Reranker:
    return LateInteractionReranker(parts.resources.snapshot, parts.encoder)


def _llm(parts: RerankParts) -> Reranker:
    settings = parts.settings.rerank
    return LlmReranker(
        _language_model(settings, parts.language_model),
        seconds=settings.llm_seconds,
        window=settings.llm_window,
        step=settings.llm_step,
        note=parts.note,
    )


def _cross_encoder_name(settings: RerankSettings, _: LanguageModel | None = None) -> str:
    if not settings.model:
        raise InvalidRequest(
            "No cross-encoder is set: set FOOTNOTE_RERANK_MODEL to the name or folder of one.",
            code="reranker_not_configured",
        )
    return settings.model


def _language_model(_settings: RerankSettings, model: LanguageModel | None) -> LanguageModel:
    return needed(model, "Reranking by `llm`")


RERANKERS: Mapping[str, Build] = {"late": _late, "cross_encoder": _cross_encoder, "llm": _llm}
"""By name, in the order in which they are told to people."""

_NEEDS: Mapping[str, Callable[[RerankSettings, LanguageModel | None], object]] = {
    "cross_encoder": _cross_encoder_name,
    "llm": _language_model,
}
"""What a reranker cannot do without, whatever index is searched; each raises InvalidRequest without it."""


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


def check_reranker(name: str, settings: RerankSettings, model: LanguageModel | None) -> None:
    """Raises InvalidRequest: `unknown_reranker`, and `reranker_not_configured` or `llm_not_configured` where
    it lacks a setting.
    """
    if name not in RERANKERS:
        known = ", ".join(RERANKERS)
        raise InvalidRequest(f"There is no reranker {name!r}: {known}.", code="unknown_reranker")
    if name in _NEEDS:
        _NEEDS[name](settings, model)


def reranker(name: str, parts: RerankParts) -> Reranker:
    """The reranker of that name. Raises what `check_reranker` raises."""
    check_reranker(name, parts.settings.rerank, parts.language_model)
    return RERANKERS[name](parts)
