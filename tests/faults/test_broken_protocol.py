"""The harness itself: with a protocol that is broken on purpose, it must find violations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.harness.sabotage import BREAKS, VARIABLE
from tests.faults.harness.storm import Report, storm

POINTS = {
    "manifest-before-segment": ("manifest-renamed", "retired-removed"),
    "manifest-in-place": ("manifest-written",),
    "done-before-it-is-done": ("batch-begun", "batch-encoded"),
    "file-in-place": ("file-written",),
}
"""Where the protocol of that name is open to a kill."""
N_ROUNDS = 8


def no_end(report: Report) -> bool:
    return report.n_rounds < N_ROUNDS


def test_every_break_is_tried() -> None:
    assert set(POINTS) == set(BREAKS)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "points"), POINTS.items(), ids=POINTS)
def test_a_broken_protocol_is_found_out(tmp_path: Path, name: str, points: Sequence[str]) -> None:
    report = storm(tmp_path, "", seed=1, go_on=no_end, n_operations=15, points=points, **{VARIABLE: name})
    assert report.violations, f"{report.n_kills} kills showed nothing"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BREAKS)
def test_without_kills_a_broken_protocol_does_not_show(tmp_path: Path, name: str) -> None:
    """So that it is the kills that find it, and not any test would."""

    def once(report: Report) -> bool:
        return report.n_rounds < 1

    report = storm(tmp_path, "", seed=1, go_on=once, n_operations=10, is_killing=False, **{VARIABLE: name})
    assert report.violations == []
    assert report.n_kills == 0
