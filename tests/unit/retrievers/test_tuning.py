"""Tuning decides by what was held out: planted gains are adopted, noise is not."""

from __future__ import annotations

import numpy as np
import pytest

from retrievers.fused import FusionSpec
from retrievers.modes import MODES, Tuning
from retrievers.tuning import (
    GRIDS,
    MAX_WEIGHINGS,
    decide,
    held_out_gains,
    settings_to_try,
    weights_to_try,
)

SETTINGS = [{"alpha": 0.8}, *({"alpha": step / 10} for step in range(8))]


def noise(n_questions: int, seed: int, spread: float = 0.2) -> np.ndarray:
    """Questions differ much, settings by chance alone."""
    random = np.random.default_rng(seed)
    return random.random((n_questions, 1)) + random.normal(0, spread, (n_questions, len(SETTINGS)))


def test_a_planted_gain_is_adopted_with_its_size() -> None:
    values = noise(120, 1)
    values[:, 4] += 0.2
    decision = decide(values, SETTINGS)
    assert decision.verdict == "adopted"
    assert decision.is_adopted
    assert decision.chosen == SETTINGS[4]
    assert decision.low > 0
    assert decision.low <= decision.gain <= decision.high
    assert decision.gain == pytest.approx(0.2, abs=0.07)


def test_noise_is_seldom_adopted() -> None:
    """The best of eight on the questions it is chosen by always looks better: held out, it does not."""
    decisions = [decide(noise(60, seed), SETTINGS, n_repeats=2) for seed in range(40)]
    assert sum(decision.is_adopted for decision in decisions) <= 3
    assert np.mean([decision.after - decision.before for decision in decisions]) > 0.01
    assert abs(np.mean([decision.gain for decision in decisions])) < 0.015


def test_a_few_questions_are_never_enough() -> None:
    values = noise(29, 2, spread=0.01)
    values[:, 4] += 0.5
    assert decide(values, SETTINGS).verdict == "too_few_questions"
    assert decide(values, SETTINGS, min_questions=29).verdict == "adopted"
    assert decide(values[:1], SETTINGS).verdict == "too_few_questions"


def test_the_present_setting_stays_where_it_is_the_best_or_as_good() -> None:
    values = noise(60, 3)
    values[:, 0] += 0.3
    assert decide(values, SETTINGS).verdict == "already_best"
    assert decide(np.ones((60, len(SETTINGS))), SETTINGS).verdict == "already_best"


def test_a_question_is_judged_by_settings_chosen_without_it() -> None:
    """One question alone favours a setting, so much that its own fold would choose it."""
    values = np.full((10, 2), 0.5)
    values[0, 1] = 5.0
    values[1:, 1] -= 0.1
    gains = held_out_gains(values, n_folds=10, n_repeats=1, seed=0)
    assert gains[0] == 0.0
    assert gains[1:] == pytest.approx([-0.1] * 9)


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="question"):
        decide(np.empty((0, len(SETTINGS))), SETTINGS)
    with pytest.raises(ValueError, match="setting"):
        decide(np.ones((3, 2)), SETTINGS)


def test_what_is_tried_begins_with_what_is_set_and_repeats_nothing() -> None:
    for mode in GRIDS:
        tried = settings_to_try(mode, Tuning(alpha=0.85))
        assert tried[0] == {name: getattr(Tuning(alpha=0.85), name) for name in GRIDS[mode]}
        assert len({tuple(setting.items()) for setting in tried}) == len(tried) > 5
    assert settings_to_try("bm25", Tuning()) == []
    assert set(GRIDS) <= set(MODES)


@pytest.mark.parametrize("n", range(2, 10))
def test_weighings_are_all_those_of_even_steps(n: int) -> None:
    names = tuple(MODES)[:n]
    fusion = FusionSpec(retrievers=names, method="convex", weights={names[0]: 0.013})
    now, *others = weights_to_try(fusion)
    assert now[names[0]] == pytest.approx(0.013 / (n - 1 + 0.013))
    assert all(sum(weights.values()) == pytest.approx(1) for weights in (now, *others))
    assert len(others) <= MAX_WEIGHINGS
    distinct = {tuple(weights[name] for name in names) for weights in others}
    steps = round(1 / min(value for weights in distinct for value in weights if value))
    naive = (
        {
            tuple(part / steps for part in parts)
            for parts in np.ndindex(*(steps + 1,) * n)
            if sum(parts) == steps
        }
        if (steps + 1) ** n < 200_000
        else distinct
    )
    assert distinct == naive
    assert steps == 10 if n <= 3 else steps < 10
