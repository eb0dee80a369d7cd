"""The logistic from logits to chances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from indexing.errors import EncoderError
from retrievers.reranking.calibration import FILE, Calibration, fit_calibration, load_calibration


def test_the_fit_finds_the_logistic_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 20_000).astype(np.float32)
    chances = 1 / (1 + np.exp(-(0.7 * logits - 1.2)))
    found = fit_calibration(logits, (rng.random(20_000) < chances).astype(np.float32))
    assert found.slope == pytest.approx(0.7, abs=0.05)
    assert found.intercept == pytest.approx(-1.2, abs=0.05)


def test_what_is_parted_cleanly_has_a_finite_slope() -> None:
    found = fit_calibration(np.array([-2, -1, 1, 2], np.float32), np.array([0, 0, 1, 1], np.float32))
    assert 0 < found.slope < 10


def test_an_order_that_is_the_wrong_way_round_is_not_learned() -> None:
    logits = np.linspace(-3, 3, 100, dtype=np.float32)
    assert fit_calibration(logits, (logits < 0).astype(np.float32)) == Calibration()


def test_chances_near_certainty_keep_the_order_of_the_logits() -> None:
    """Single precision has but one number from a logit of 17 on."""
    logits = np.array([-30, -20, 16, 18, 20, 25, 30], np.float32)
    chances = Calibration()(logits)
    assert (np.diff(chances) > 0).all()
    assert chances.min() > 0
    assert chances.max() < 1


def test_saved_and_loaded(tmp_path: Path) -> None:
    assert load_calibration(tmp_path) == Calibration()
    Calibration(slope=0.5, intercept=2.0).save(tmp_path)
    assert load_calibration(tmp_path) == Calibration(slope=0.5, intercept=2.0)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"slope": 1}', '{"slope": -1, "intercept": 0}', '{"slope": NaN, "intercept": 0}']
)
def test_a_file_that_says_nothing_sound_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(EncoderError, match="calibration"):
        load_calibration(tmp_path)
