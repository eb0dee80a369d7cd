"""The model card: what was trained, on what, how, and whether it helped."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from retrievers.training.loop import Plan
from retrievers.training.measure import K, Measured

_PACKAGES = ("footnote", "torch", "transformers", "sentence-transformers", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Data that was learned from, or only measured on; the licence as whoever trained it stated it."""

    name: str
    licence: str | None
    n_learned: int
    n_held: int
    synthetic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    kind: str
    base: str
    command: str
    use: str
    plan: Plan
    options: Mapping[str, Any]
    sources: Sequence[Source]
    measured: Mapping[str, Measured]
    first_loss: float
    last_loss: float
    day: date

    def markdown(self) -> str:
        plan = self.plan
        return "\n".join(
            (
                f"# {self.kind} trained by Footnote",
                "",
                f"Base: {self.base}. Trained on {self.day.isoformat()} with",
                "",
                f"    {self.command}",
                "",
                f"and used with `{self.use}`.",
                "",
                "## Data",
                "",
                "| collection | questions learned | held out | made from the text | licence |",
                "|---|---:|---:|---|---|",
                *(
                    f"| {s.name} | {s.n_learned} | {s.n_held} | {'yes' if s.synthetic else 'no'} "
                    f"| {s.licence or 'not stated'} |"
                    for s in self.sources
                ),
                "",
                "Weights may be passed on only as far as the licences of all the data allow.",
                "",
                "## Measured",
                "",
                f"nDCG@{K} of the candidates of the fused ranking, on questions not learned from; a "
                "collection of which none was learned from says most.",
                "",
                "| collection | questions | fused | model before | model after |",
                "|---|---:|---:|---:|---:|",
                *(
                    f"| {name} | {m.n_queries} | {m.fused:.4f} | {m.before:.4f} | {m.after:.4f} |"
                    for name, m in self.measured.items()
                ),
                "",
                "## Training",
                "",
                f"{plan.steps} steps of {plan.batch_size} questions, learning rate {plan.learning_rate:g}, "
                f"seed {plan.seed}; the loss went from {self.first_loss:.4f} to {self.last_loss:.4f} (means "
                "of the first and the last tenth).",
                "",
                *(f"- {name}: {value}" for name, value in self.options.items()),
                "",
                "Versions: " + ", ".join(_versions()) + f"; Python {platform.python_version()}.",
                "",
            )
        )


def _versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found
