"""Learning how a collection is searched best: settings to try, and whether the best of them is adopted.

What is adopted must have helped on questions that it was not chosen by. Questions are dealt into folds,
several times anew; in each fold count the settings that are best on the other folds. So every question has a
gain, the mean of those in its folds, and a bootstrap over the questions gives the interval of their mean.
Kohavi 1995, "A study of cross-validation and bootstrap for accuracy estimation and model selection".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from math import comb
from typing import Literal

import numpy as np

from retrievers.evaluation.significance import Doubles, bootstrap_interval
from retrievers.fused import FusionSpec
from retrievers.modes import Tuning
from retrievers.types import Mode

MIN_QUESTIONS = 30
"""With fewer, nothing is adopted whatever the gain: an interval from so few is not to be trusted."""

N_FOLDS = 5
N_REPEATS = 10

TENTHS = tuple(round(step / 10, 1) for step in range(11))
GRIDS: Mapping[Mode, Mapping[str, tuple[float, ...]]] = {
    # A search asks for token vectors here, so fewer values are tried of each.
    "auto": {"alpha": (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0), "maxsim_weight": (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)},
    "hybrid": {"alpha": TENTHS},
    "rrf": {"rrf_k": (1, 2, 5, 10, 20, 40, 60, 100)},
}
"""By mode, the values that are tried of each field of `Tuning`."""

MAX_WEIGHINGS = 70
"""Of the retrievers of a fusion; and no finer than tenths."""

Setting = Mapping[str, float]
Verdict = Literal["adopted", "too_few_questions", "within_noise", "already_best"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What came of trying: `chosen` is the setting that is best on all questions.

    `gain` is the mean gain on held-out questions over the present setting, [low, high] its 95 % interval.
    `before` and `after` are means over all questions of the present setting and of the chosen one; the second
    is what it was chosen by, so it flatters.
    """

    verdict: Verdict
    chosen: Setting
    n_questions: int
    before: float
    after: float
    gain: float
    low: float
    high: float

    @property
    def is_adopted(self) -> bool:
        return self.verdict == "adopted"


def settings_to_try(mode: Mode, present: Tuning) -> list[Setting]:
    """The present setting first, then every other combination of the mode's grid; [] for a fixed mode."""
    grid = GRIDS.get(mode)
    if grid is None:
        return []
    now = {name: getattr(present, name) for name in grid}
    others = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    return [now, *(other for other in others if other != now)]


def weights_to_try(fusion: FusionSpec) -> list[Setting]:
    """The present weights first, then every other combination in even steps; each sums to 1.

    A multiple of all weights gives the same order, so the sum is no loss.

    >>> weights_to_try(FusionSpec(retrievers=("bm25", "dense"), weights={"dense": 3}, method="convex"))[:3]
    [{'bm25': 0.25, 'dense': 0.75}, {'bm25': 0.0, 'dense': 1.0}, {'bm25': 0.1, 'dense': 0.9}]
    """
    names = fusion.retrievers
    given = [fusion.weights.get(name, 1.0) for name in names]
    now = {name: weight / sum(given) for name, weight in zip(names, given, strict=True)}
    n_bars = len(names) - 1
    steps = max(n for n in range(1, 11) if n == 1 or comb(n + n_bars, n_bars) <= MAX_WEIGHINGS)
    others = []
    # Bars among stars: what stands between two bars are the steps of one retriever.
    for bars in combinations(range(steps + n_bars), n_bars):
        edges = (-1, *bars, steps + n_bars)
        sizes = [right - left - 1 for left, right in pairwise(edges)]
        others.append({name: size / steps for name, size in zip(names, sizes, strict=True)})
    return [now, *(other for other in others if other != now)]


def decide(
    values: Doubles,
    settings: Sequence[Setting],
    *,
    min_questions: int = MIN_QUESTIONS,
    n_folds: int = N_FOLDS,
    n_repeats: int = N_REPEATS,
    seed: int = 0,
) -> Decision:
    """Whether to adopt the best of the settings, of which the first is the present one.

    `values[question, setting]` is the quality that a question had. Adopted is a setting whose held-out gain
    has an interval above 0. Raises ValueError where there is no question or the shapes differ.
    """
    n_questions, n_settings = values.shape
    if not n_questions or n_settings != len(settings):
        raise ValueError("There must be at least one question, and a value for every setting.")
    gains = held_out_gains(values, n_folds=n_folds, n_repeats=n_repeats, seed=seed)
    low, high = bootstrap_interval(gains.tolist(), seed=seed)
    best = _best(values)
    verdict: Verdict = "adopted"
    if n_questions < min_questions:
        verdict = "too_few_questions"
    elif best == 0:
        verdict = "already_best"
    elif low <= 0:
        verdict = "within_noise"
    return Decision(
        verdict=verdict,
        chosen=settings[best],
        n_questions=n_questions,
        before=float(values[:, 0].mean()),
        after=float(values[:, best].mean()),
        gain=float(gains.mean()),
        low=low,
        high=high,
    )


def held_out_gains(values: Doubles, *, n_folds: int, n_repeats: int, seed: int) -> Doubles:
    """For each question the gain over the first setting, of those chosen without the question."""
    n_questions = len(values)
    n_folds = min(n_folds, n_questions)
    if n_folds < 2:
        return np.zeros(n_questions)
    random = np.random.default_rng(seed)
    gains = np.zeros(n_questions)
    for _ in range(n_repeats):
        fold_of = random.permutation(n_questions) % n_folds
        for fold in range(n_folds):
            held_out = fold_of == fold
            best = _best(values[~held_out])
            gains[held_out] += values[held_out, best] - values[held_out, 0]
    return gains / n_repeats


def _best(values: Doubles) -> int:
    """The setting with the highest mean; the present one where it is as good, but for rounding."""
    means = values.mean(axis=0)
    best = int(means.argmax())
    return best if means[best] > means[0] + 1e-9 else 0
