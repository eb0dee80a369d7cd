"""The transformations of a query that can be asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from app.errors import InvalidRequest
from app.language_model import needed
from indexing.language_model import LanguageModel
from retrievers.modes import mode_spec
from retrievers.transformation.asking import Asking
from retrievers.transformation.base import Transformation
from retrievers.transformation.hyde import Hyde
from retrievers.transformation.rewriting import decompose, multi_query, step_back

if TYPE_CHECKING:
    from app.settings import TransformSettings
    from retrievers.fused import FusionSpec
    from retrievers.types import Mode

Build = Callable[[Asking, "TransformSettings"], Transformation]

TRANSFORMATIONS: Mapping[str, Build] = {
    "hyde": lambda asking, settings: Hyde(asking=asking, n_passages=settings.passages),
    "multi_query": lambda asking, settings: multi_query(asking, settings.paraphrases),
    "decompose": lambda asking, settings: decompose(asking, settings.questions),
    "step_back": lambda asking, _settings: step_back(asking),
}
"""By name, in the order in which they are told to people."""

OF_THE_VECTOR = frozenset({"hyde"})
"""Those that change nothing but the query's vector."""


def transformation(
    name: str,
    mode: Mode,
    model: LanguageModel | None,
    settings: TransformSettings,
    *,
    fusion: FusionSpec | None = None,
) -> Transformation:
    """The transformation of that name, for a search in that mode, and with that fusion in the mode `fused`.

    Raises InvalidRequest: `unknown_transformation`, `transform_without_effect` for one that such a search
    would not feel, and `llm_not_configured` where no model is set.
    """
    build = TRANSFORMATIONS.get(name)
    if build is None:
        known = ", ".join(TRANSFORMATIONS)
        raise InvalidRequest(f"There is no transformation {name!r}: {known}.", code="unknown_transformation")
    if name in OF_THE_VECTOR and not mode_spec(mode, fusion).needs_vector:
        raise InvalidRequest(
            f"The transformation {name!r} changes the query's vector, and the mode {mode!r} uses none.",
            code="transform_without_effect",
        )
    asking = Asking(
        model=needed(model, f"The transformation {name!r}"),
        seconds=settings.seconds,
        max_tokens=settings.max_tokens,
        seed=settings.seed,
    )
    return build(asking, settings)
