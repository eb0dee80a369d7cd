"""What a kind of training has to give; the rest is the same for all kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from indexing.types import Floats
from retrievers.training import losses
from retrievers.training.examples import Example

if TYPE_CHECKING:
    import torch

Distillation = Literal["none", "margin_mse", "kl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Contrastive loss plus `weight` times the distance from the fused ranking.

    The fused scores lie within a narrow range; `teacher_scale` brings their margins near those of logits.
    """

    distillation: Distillation = "kl"
    weight: float = 1.0
    teacher_scale: float = 20.0

    def loss(self, scores: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """The loss of candidates of which the first ones, as many as `teacher` has, have fused scores."""
        total = losses.contrastive(scores, labels)
        if self.distillation == "none":
            return total
        distance = losses.kl_divergence if self.distillation == "kl" else losses.margin_mse
        return total + self.weight * distance(scores[:, : teacher.shape[1]], teacher * self.teacher_scale)


class Learner(Protocol):
    """A model that can be trained, measured and saved."""

    @property
    def module(self) -> torch.nn.Module: ...

    def loss_of(self, places: Sequence[int], rng: np.random.Generator) -> torch.Tensor:
        """The loss of the examples at these places of those to learn from."""

    def score(self, example: Example) -> Floats:
        """The scores of the candidates as the model is now."""

    def save(self, folder: Path, held: Sequence[Example]) -> None:
        """Writes what the settings name; what is left to be fitted may look at what was held out."""

    @property
    def use(self) -> str:
        """The setting that uses what was saved, `{folder}` standing for where."""
