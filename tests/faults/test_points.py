"""The list of points is what the source has; a kill at each of them is harmless."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
import indexing
from tests.faults.harness.points import POINTS
from tests.faults.harness.storm import every_point

# `replace_file` names its points after the file, and of those a manifest is the one that matters.
NAMED_AFTER_A_FILE = {"manifest-written", "manifest-renamed"}
N_PARTS = 4
"""So that no test takes longer than a test may."""


def points_in_source() -> Iterator[str]:
    for package in (app, indexing):
        for path in Path(str(package.__file__)).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "checkpoint":
                    (name,) = node.args
                    if isinstance(name, ast.Constant):
                        yield str(name.value)


def test_every_point_of_the_source_is_in_the_list_and_no_other() -> None:
    assert {*points_in_source()} | NAMED_AFTER_A_FILE == set(POINTS)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(N_PARTS))
def test_a_kill_at_each_point_loses_nothing_and_doubles_nothing(tmp_path: Path, part: int) -> None:
    points = list(POINTS)[part::N_PARTS]
    report = every_point(tmp_path, "", points, seed=part)
    assert report.violations == []
    assert {*report.kills_at_points} == {*points}
