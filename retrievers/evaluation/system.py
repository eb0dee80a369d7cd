"""What is measured: a mode, and what goes before and after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from indexing.encoding.base import Encoder
from retrievers.base import Reranker
from retrievers.evaluation.errors import EvaluationError
from retrievers.fused import FusionSpec
from retrievers.modes import MODES, ModeSpec, Resources, Tuning, mode_spec
from retrievers.pipeline import RERANK_K, Pipeline
from retrievers.transformation.base import Transformation
from retrievers.types import Mode

Note = Callable[[str], None]
MakeReranker = Callable[[Resources, Note], Reranker]
"""From the index, and what is told the notes, to a reranker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One way to search. `fusion` says what the mode `fused` fuses, `tuning` what is set of retrieval.

    `reranker` makes what orders the best `rerank_k` chunks anew.
    """

    mode: str
    fusion: FusionSpec | None = None
    transformation: Transformation | None = None
    reranker: MakeReranker | None = None
    rerank_k: int = RERANK_K
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.mode if self.fusion is None else self.fusion.label

    def mode_spec(self) -> ModeSpec:
        """Raises EvaluationError where there is no such mode, or it cannot be fused so."""
        if self.mode not in MODES:
            raise EvaluationError(f"There is no mode {self.mode!r}; the modes are {', '.join(MODES)}.")
        try:
            return mode_spec(cast(Mode, self.mode), self.fusion)
        except ValueError as error:
            raise EvaluationError(str(error)) from error

    def pipeline(self, resources: Resources, encoder: Encoder, note: Note) -> Pipeline:
        """The search over an index; what its reranker has to say goes to `note`."""
        spec = self.mode_spec()
        return Pipeline(
            retriever=spec.build(resources),
            encoder=encoder,
            needs_vector=spec.needs_vector,
            needs_tokens=spec.needs_tokens,
            transformation=self.transformation,
            reranker=None if self.reranker is None else self.reranker(resources, note),
            rerank_k=self.rerank_k,
            rrf_k=self.tuning.rrf_k,
        )

    def settings(self) -> dict[str, Any]:
        """What a result says of how it was searched, beside the mode."""
        return {
            "tuning": {**asdict(self.tuning), "fusion": self.tuning.fusion.values()},
            "transform": None if self.transformation is None else self.transformation.name,
            "rerank_k": None if self.reranker is None else self.rerank_k,
        }
