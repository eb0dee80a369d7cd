"""From what a model gives to how likely a passage is to be relevant."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from indexing.errors import EncoderError
from indexing.types import Floats
from retrievers.fusion import Doubles

FILE = "calibration.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The logistic p = 1 / (1 + exp(-(slope · logit + intercept))) of a model (Platt 1999).

    The default is the model's own: one trained with binary cross-entropy gives log-odds.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, logits: Floats) -> Doubles:
        """Scores in [0, 1], in the order of the logits while the slope is positive.

        In double precision: chances near 1 would be equal in single precision, and passages be ranked so.

        >>> Calibration()(np.array([0.0, 2.0], np.float32)).round(3).tolist()
        [0.5, 0.881]
        """
        shifted = np.clip(self.slope * np.asarray(logits, np.float64) + self.intercept, -60, 60)
        return np.asarray(1 / (1 + np.exp(-shifted)), np.float64)

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


def load_calibration(folder: Path) -> Calibration:
    """The calibration that lies with a model; the default where there is none.

    Raises EncoderError where the file cannot be read, or would turn the order around.
    """
    path = folder / FILE
    if not path.is_file():
        return Calibration()
    try:
        values = json.loads(path.read_text("utf-8"))
        calibration = Calibration(slope=float(values["slope"]), intercept=float(values["intercept"]))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise EncoderError(f"{path} cannot be read: {exc}") from exc
    if not (np.isfinite([calibration.slope, calibration.intercept]).all() and calibration.slope > 0):
        raise EncoderError(f"{path}: the slope must be above 0, and both numbers finite.")
    return calibration


def fit_calibration(logits: Floats, relevant: Floats) -> Calibration:
    """The logistic of the highest likelihood, with Platt's smoothed targets.

    `relevant` holds 0 and 1. With n₊ relevant and n₋ other passages the targets are (n₊ + 1) / (n₊ + 2) and
    1 / (n₋ + 2), which keeps the slope finite where the two do not overlap. Newton's method; Platt 1999,
    section 2.2. The default where that gives no positive slope.
    """
    x = np.asarray(logits, np.float64)
    y = np.asarray(relevant, np.float64)
    n_relevant = float(y.sum())
    target = np.where(y > 0, (n_relevant + 1) / (n_relevant + 2), 1 / (len(y) - n_relevant + 2))
    inputs = np.stack([x, np.ones_like(x)])
    weights = np.zeros(2)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(weights @ inputs, -60, 60)))
        gradient = inputs @ (chance - target)
        curvature = (inputs * (chance * (1 - chance))) @ inputs.T + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-8:
            break
    slope, intercept = (float(value) for value in weights)
    return Calibration(slope=slope, intercept=intercept) if slope > 0 else Calibration()
