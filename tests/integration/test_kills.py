"""A short storm of kills, with everything: the long ones are in `tests/faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.harness.storm import storm


@pytest.mark.slow
def test_a_short_storm(tmp_path: Path) -> None:
    report = storm(tmp_path, "", seed=11, go_on=lambda done: done.n_kills < 5, n_operations=16)
    assert report.violations == []
    assert report.n_kills >= 5
