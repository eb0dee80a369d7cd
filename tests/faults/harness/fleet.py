"""A service and its workers that are killed again and again, at chosen points and at chance instants."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from app.nodes import trees
from app.services import Services
from tests.faults.harness.checks import n_lagging, n_live_jobs
from tests.faults.harness.points import API, POINTS, WORKER
from tests.faults.harness.processes import Process, Zygote

START_SECONDS = 60.0
DIE_SECONDS = 60.0
SETTINGS: Mapping[str, str] = {
    "FOOTNOTE_WORKER_LEASE_SECONDS": "1",
    "FOOTNOTE_WORKER_POLL_SECONDS": "0.05",
    "FOOTNOTE_WORKER_LOADERS": "1",
    "FOOTNOTE_WORKER_BATCH_DOCUMENTS": "4",
    # No job is to be given up because its workers were killed.
    "FOOTNOTE_WORKER_MAX_ATTEMPTS": "100000",
    "FOOTNOTE_WORKER_NICE": "0",
    # So that there are trees: the documents are short.
    "FOOTNOTE_TREE_LONG_DOCUMENT": "2",
    "FOOTNOTE_DATABASE_POOL_SIZE": "4",
    "FOOTNOTE_LOG_LEVEL": "WARNING",
}


COMPLAINTS = ('"index_unusable"', '"unexpected_error"')
"""Of what is logged: an index that has to be made anew, an error that no one foresaw."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a process is to die: at a point, the n-th time it comes by, or so many seconds after its start."""

    point: str | None = None
    passing: int = 1
    seconds: float = 0.0

    @property
    def env(self) -> dict[str, str]:
        return {"FOOTNOTE_CRASH_AT": f"{self.point}:{self.passing}"} if self.point else {}


@dataclass(slots=True)
class Kills:
    """How many processes were killed: by point where they came by it, else at a chance instant."""

    at_points: Counter[str] = field(default_factory=Counter)
    at_random: int = 0

    @property
    def total(self) -> int:
        return self.at_points.total() + self.at_random


class Victim:
    """A running command with the death that is meant for it."""

    def __init__(self, process: Process, death: Death | None) -> None:
        self.process = process
        self.death = death
        self.was_killed = False
        self.is_counted = False
        self._timer: threading.Timer | None = None
        if death is not None and death.point is None:
            self._timer = threading.Timer(death.seconds, self.kill)
            self._timer.daemon = True
            self._timer.start()

    def kill(self) -> None:
        self.was_killed = True
        self.process.kill()

    def spare(self) -> None:
        """No chance instant for this one any more."""
        if self._timer is not None:
            self._timer.cancel()


class Fleet:
    """Processes over one data folder and one database. Use it as a context; all are killed at the end."""

    def __init__(
        self,
        zygote: Zygote,
        home: Path,
        database_url: str,
        chance: random.Random,
        *,
        n_workers: int = 2,
        points: Sequence[str] | None = None,
        **environment: str,
    ) -> None:
        self.zygote = zygote
        self.home = home
        self.chance = chance
        self.kills = Kills()
        self.n_started = 0
        self.problems: list[str] = []
        """What no process may do: end by itself, answer 500."""
        self.env = {
            **SETTINGS,
            "FOOTNOTE_HOME": str(home),
            "FOOTNOTE_DATABASE_URL": database_url,
            **environment,
        }
        self.n_workers = n_workers
        self.is_storming = True
        self._target: str | None = None
        self._n_before = 0
        self._points = tuple(POINTS) if points is None else tuple(points)
        self._api: Victim | None = None
        self._workers: list[Victim] = []
        self._port = 0
        self._read: dict[Path, int] = {}
        self._client = httpx.Client(timeout=60.0)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()
        self._client.close()

    # The processes.

    def death(self, kind: str) -> Death | None:
        """A death for a process of this kind: the points where fewest have died so far come first."""
        if not self.is_storming:
            return None
        if self._target is not None:
            meant = kind in POINTS[self._target] and not self.has_hit()
            return Death(point=self._target) if meant else None
        if self.chance.random() < 0.1:
            return None
        points = [point for point in self._points if kind in POINTS[point]]
        if points and self.chance.random() < 0.65:
            self.chance.shuffle(points)
            point = min(points, key=lambda name: self.kills.at_points[name])
            return Death(point=point, passing=self.chance.choice((1, 1, 1, 2, 3)))
        return Death(seconds=self.chance.uniform(0.02, 2.5 if kind in (API, WORKER) else 0.4))

    def aim(self, point: str) -> None:
        """From now on whoever comes by this point first dies there, and no one else."""
        self._target, self._n_before = point, self.kills.at_points[point]

    def has_hit(self) -> bool:
        """Whether a process has died where it was meant to."""
        self.count()
        return self._target is not None and self.kills.at_points[self._target] > self._n_before

    def start(
        self, argv: Sequence[str], death: Death | None = None, env: Mapping[str, str] | None = None
    ) -> Victim:
        self.n_started += 1
        own = {} if death is None else death.env
        return Victim(self.zygote.spawn(argv, {**self.env, **(env or {}), **own}), death)

    def run(
        self,
        *argv: str,
        death: Death | None = None,
        env: Mapping[str, str] | None = None,
        timeout_seconds: float = 120.0,
    ) -> int | None:
        """The exit code of a command; None where it was killed."""
        victim = self.start(argv, death, env)
        code = victim.process.wait(timeout_seconds)
        self._count(victim, ends_by_itself=True)
        return None if code == -signal.SIGKILL else code

    def revive(self) -> None:
        """Starts anew what has died."""
        if self._api is None or not self._api.process.is_alive:
            self._count(self._api)
            self._start_api()
        for victim in [victim for victim in self._workers if not victim.process.is_alive]:
            self._count(victim)
            self._workers.remove(victim)
        while len(self._workers) < self.n_workers:
            self._workers.append(self.start([WORKER], self.death(WORKER)))

    def count(self) -> None:
        """Notes who has died."""
        for victim in [*self._workers, *([self._api] if self._api else [])]:
            if not victim.process.is_alive:
                self._count(victim)

    def forget_ended(self) -> None:
        """Lets the workers go that a test ended itself."""
        self._workers = [victim for victim in self._workers if victim.process.is_alive]

    def wait_a_while(self, seconds: float) -> None:
        """For a worker to die; not longer than that takes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and all(victim.process.is_alive for victim in self._workers):
            time.sleep(0.01)

    def storm(self) -> None:
        self.is_storming = True
        self.kill_all()
        self.revive()

    def calm(self) -> None:
        """Kills everything, and starts what is not killed any more."""
        self.is_storming = False
        self.kill_all()
        self.revive()

    @property
    def workers(self) -> list[Process]:
        return [victim.process for victim in self._workers]

    @property
    def api(self) -> Process:
        assert self._api is not None
        return self._api.process

    def kill_all(self) -> None:
        victims = [*self._workers, *([self._api] if self._api else [])]
        for victim in victims:
            victim.spare()
            if victim.process.is_alive:
                victim.kill()
        for victim in victims:
            victim.process.wait(DIE_SECONDS)
            self._count(victim)
        self._workers, self._api = [], None

    def stop_all(self, timeout_seconds: float = 30.0) -> list[int]:
        """Ends everything in good order; gives the exit codes."""
        victims = [*self._workers, *([self._api] if self._api else [])]
        for victim in victims:
            victim.spare()
            victim.process.send(signal.SIGTERM)
        codes = [victim.process.wait(timeout_seconds) for victim in victims]
        self._workers, self._api = [], None
        return codes

    def _start_api(self) -> None:
        """Until it answers, or has died before that, in which case the next one is meant to live longer."""
        while True:
            self._port = _free_port()
            argv = [API, "--no-worker", "--port", str(self._port)]
            self._api = self.start(argv, self.death(API))
            deadline = time.monotonic() + START_SECONDS
            while self._api.process.is_alive:
                assert time.monotonic() < deadline, self._api.process.said()
                try:
                    self._client.get(self.url("/health/live"))
                except httpx.TransportError:
                    time.sleep(0.01)
                else:
                    return
            self._count(self._api)

    def _count(self, victim: Victim | None, *, ends_by_itself: bool = False) -> None:
        if victim is None or victim.is_counted:
            return
        victim.is_counted = True
        victim.spare()
        code = victim.process.code
        if code == -signal.SIGKILL:
            if victim.was_killed:
                self.kills.at_random += 1
            else:
                assert victim.death is not None
                assert victim.death.point is not None
                self.kills.at_points[victim.death.point] += 1
        elif not ends_by_itself:
            self.problems.append(
                f"{victim.process.argv} ended by itself with {code}: {victim.process.said()}"
            )

    def complaints(self) -> list[str]:
        """What processes have logged since the last call that no kill may lead to."""
        found = []
        for log in sorted(self.zygote.folder.glob("*.log")):
            with log.open(errors="replace") as lines:
                lines.seek(self._read.get(log, 0))
                found += [line.strip() for line in lines if any(word in line for word in COMPLAINTS)]
                self._read[log] = log.stat().st_size
        return found

    # Requests.

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    def ask(self, method: str, path: str, **given: object) -> httpx.Response | None:
        """The answer; None where the service died over it."""
        try:
            reply = self._client.request(method, self.url(path), **given)  # type: ignore[arg-type]
        except httpx.TransportError:
            if self._api is not None:
                self._api.process.ended.wait(1.0)
                if self._api.process.is_alive:
                    self.problems.append(f"{method} {path}: no answer from a service that lives")
            return None
        if reply.status_code == 500:
            self.problems.append(f"{method} {path}: 500 {reply.text} {self.api.said()}")
        return reply

    def wait_until_quiet(self, services: Services, timeout_seconds: float = 120.0) -> None:
        """Until no job waits or is in work, and the served indexes and the trees have followed."""
        deadline = time.monotonic() + timeout_seconds
        while n_live_jobs(services) or n_lagging(services) or trees.keep_up(services):
            if time.monotonic() > deadline:
                said = "".join(process.said() for process in self.workers)
                raise TimeoutError(f"the work was not done in {timeout_seconds} s: {said}")
            self.revive()
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
