"""What the fault tests share: a zygote, a fleet that is only killed when a test says so."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.services import Services, open_services
from tests.faults.harness.checks import settings_for
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.processes import Zygote, running_zygote
from tests.faults.harness.zygote import load_words

CalmFleet = Callable[..., Fleet]


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    with running_zygote(tmp_path / "run") as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def calm_fleet(zygote: Zygote, home: Path) -> Iterator[CalmFleet]:
    """A service and workers on `home`, running: `calm_fleet(url="", n_workers=1, FOOTNOTE_…="…")`."""
    with ExitStack() as stack:

        def start(*, url: str = "", n_workers: int = 1, where: Path = home, **environment: str) -> Fleet:
            fleet = Fleet(zygote, where, url, random.Random(0), n_workers=n_workers, **environment)
            stack.enter_context(fleet)
            fleet.calm()
            return fleet

        yield start


@pytest.fixture
def services(home: Path) -> Iterator[Services]:
    """Services of the test's own on `home`, over SQLite: to look, and to send in."""
    with open_services(settings_for(home, ""), load=load_words) as opened:
        yield opened
