"""Rounds of work under kills, each ended by quiet and a look at everything."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.services import open_services
from tests.faults.harness import checks
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.model import Model
from tests.faults.harness.operations import SCRIPT, World, do_one
from tests.faults.harness.points import POINTS, WORKER
from tests.faults.harness.processes import running_zygote
from tests.faults.harness.zygote import load_words


@dataclass(slots=True)
class Report:
    """What was done, how often processes were killed, and what was not as promised."""

    seed: int
    n_rounds: int = 0
    n_started: int = 0
    n_documents: int = 0
    n_unknown: int = 0
    seconds: float = 0.0
    operations: dict[str, int] = field(default_factory=dict)
    kills_at_points: dict[str, int] = field(default_factory=dict)
    kills_at_random: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def n_kills(self) -> int:
        return sum(self.kills_at_points.values()) + self.kills_at_random

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "rounds": self.n_rounds,
            "operations": sum(self.operations.values()),
            "operations_by_kind": self.operations,
            "unanswered": self.n_unknown,
            "kills": self.n_kills,
            "kills_at_points": dict(sorted(self.kills_at_points.items())),
            "kills_at_random_instants": self.kills_at_random,
            "processes_started": self.n_started,
            "documents_at_the_end": self.n_documents,
            "seconds": round(self.seconds, 1),
            "violations": self.violations,
        }


def storm(
    folder: Path,
    database_url: str,
    *,
    seed: int,
    go_on: Callable[[Report], bool],
    n_operations: int = 25,
    n_workers: int = 2,
    say: Callable[[Report], None] = lambda _: None,
    points: Sequence[str] | None = None,
    is_killing: bool = True,
    **environment: str,
) -> Report:
    """Rounds for as long as `go_on` says; ends at once when something is not as promised."""
    started = time.monotonic()
    report, chance, model = Report(seed=seed), random.Random(seed), Model()
    home = folder / "home"
    with (
        running_zygote(folder / "run") as zygote,
        Fleet(zygote, home, database_url, chance, n_workers=n_workers, points=points, **environment) as fleet,
    ):
        world = World(fleet=fleet, model=model, chance=chance, folder=folder)
        while not report.violations and go_on(report):
            report.n_rounds += 1
            if is_killing:
                fleet.storm()
            else:
                fleet.calm()
            for _ in range(n_operations):
                fleet.revive()
                do_one(world)
            if is_killing:
                fleet.calm()
            report.violations = _look(folder, database_url, world, report.n_rounds)
            _note(report, world, started)
            say(report)
    return report


def every_point(
    folder: Path,
    database_url: str,
    points: Sequence[str],
    *,
    seed: int,
    points_a_look: int = 6,
    n_scripts: int = 3,
    say: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Kills at one point after the other, and looks at everything now and then.

    A point where no one came by is a violation.
    """
    started = time.monotonic()
    report, chance, model = Report(seed=seed), random.Random(seed), Model()
    with (
        running_zygote(folder / "run") as zygote,
        Fleet(zygote, folder / "home", database_url, chance, n_workers=1) as fleet,
    ):
        world = World(fleet=fleet, model=model, chance=chance, folder=folder)
        for number, point in enumerate(points, start=1):
            fleet.aim(point)
            fleet.storm()
            if not _killed_at(world, point, n_scripts):
                report.violations.append(f"no process came by {point}")
            if number % points_a_look == 0 or number == len(points):
                report.n_rounds += 1
                fleet.calm()
                report.violations += _look(folder, database_url, world, report.n_rounds)
                _note(report, world, started)
                say(report)
                if report.violations:
                    break
    return report


def _killed_at(world: World, point: str, n_scripts: int) -> bool:
    """Whether a process came by the point and died, in a few turns of everything that can be done."""
    fleet = world.fleet
    for operation in SCRIPT * n_scripts:
        fleet.revive()
        world.done[operation.__name__] += 1
        operation(world)
        if not POINTS[point].isdisjoint({WORKER}):
            fleet.wait_a_while(0.5)
        if fleet.has_hit():
            return True
    return False


def _note(report: Report, world: World, started: float) -> None:
    fleet = world.fleet
    report.n_started = fleet.n_started
    report.n_documents = len(world.model.present())
    report.n_unknown = world.model.n_unknown
    report.operations = dict(world.done)
    report.kills_at_points = dict(fleet.kills.at_points)
    report.kills_at_random = fleet.kills.at_random
    report.seconds = time.monotonic() - started


def _look(folder: Path, database_url: str, world: World, number: int) -> list[str]:
    fleet, model = world.fleet, world.model
    with open_services(checks.settings_for(fleet.home, database_url), load=load_words) as services:
        try:
            fleet.wait_until_quiet(services)
            if checks.retried(services):
                fleet.wait_until_quiet(services)
        except TimeoutError as error:
            return [*fleet.problems, str(error)]
        found = [*fleet.problems, *fleet.complaints()]
        # One that has not begun to listen for the signal yet is ended by it.
        codes = set(fleet.stop_all()) - {0, -signal.SIGTERM}
        if codes:
            found.append(f"processes that were asked to stop ended with {codes}")
        found += checks.everything(services, model, world.chance)
        if not found:
            calm = folder / f"calm-{number}"
            found += checks.against_undisturbed(services, model, calm)
            shutil.rmtree(calm)
    return found
