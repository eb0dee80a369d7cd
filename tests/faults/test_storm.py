"""Kills without end, at points and at chance instants: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.harness.storm import Report, storm

KILLS_A_STORM = 65
KILLS_ON_POSTGRES = 25


def enough(n_kills: int):
    def go_on(report: Report) -> bool:
        return report.n_kills < n_kills

    return go_on


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_storm_loses_nothing_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    report = storm(tmp_path, "", seed=seed, go_on=enough(KILLS_A_STORM), n_operations=40)
    assert report.violations == []
    assert report.n_kills >= KILLS_A_STORM


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.postgres
def test_a_storm_on_postgres(tmp_path: Path, postgres_server) -> None:
    name = postgres_server.create()
    url = postgres_server.url(name)
    report = storm(tmp_path, url, seed=5, go_on=enough(KILLS_ON_POSTGRES), n_operations=40)
    postgres_server.drop(name)
    assert report.violations == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_storm_with_four_workers_on_one_collection(tmp_path: Path) -> None:
    report = storm(tmp_path, "", seed=6, go_on=enough(30), n_operations=40, n_workers=4)
    assert report.violations == []
