"""A database that is gone or locked for a while: clear answers meanwhile, and the work goes on afterwards."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import httpx
import psycopg
import pytest

from app.db import jobs
from app.services import open_services
from tests.faults.conftest import CalmFleet
from tests.faults.harness import checks
from tests.faults.harness.fleet import Fleet
from tests.faults.harness.zygote import load_words
from tests.postgres import Server, ServerUnavailable, running_server

N_DOCUMENTS = 40


def text_of(number: int) -> str:
    return f"# Note {number}\n\nThe word is note{number}word.\n"


def send(fleet: Fleet, number: int) -> httpx.Response:
    reply = fleet.ask("POST", "/v1/documents", json={"text": text_of(number), "source": f"{number}.md"})
    assert reply is not None
    return reply


def send_until_accepted(fleet: Fleet, numbers: range) -> list[httpx.Response]:
    """Each once more as long as it is refused; gives what was refused."""
    refused = []
    for number in numbers:
        deadline = time.monotonic() + 60
        while (reply := send(fleet, number)).status_code not in (200, 202):
            refused.append(reply)
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return refused


def check_all_done(fleet: Fleet, url: str) -> None:
    with open_services(checks.settings_for(fleet.home, url), load=load_words) as services:
        fleet.wait_until_quiet(services)
        with services.read() as session:
            counts = jobs.counts(session)
        assert {status for _, status in counts} == {"succeeded"}
    assert fleet.problems == []
    listed = fleet.ask("GET", "/v1/documents", params={"limit": 1000})
    assert listed is not None
    assert {(row["source"], row["status"]) for row in listed.json()["data"]} == {
        (f"{number}.md", "ready") for number in range(N_DOCUMENTS)
    }


def check_refused(refused: list[httpx.Response]) -> None:
    assert refused, "nothing was refused, so nothing was shown"
    assert {(reply.status_code, reply.json()["code"]) for reply in refused} == {(503, "database_unavailable")}
    assert all(int(reply.headers["Retry-After"]) > 0 for reply in refused)


def kill_server(data: Path) -> tuple[list[str], int]:
    """Kills a PostgreSQL server with all its processes; gives the command that starts it, and its user."""
    pid = int((data / "postmaster.pid").read_text().splitlines()[0])
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    owner = Path(f"/proc/{pid}").stat().st_uid
    for process in (pid, *map(int, children.stdout.split())):
        os.kill(process, signal.SIGKILL)
    # The dead server is a child of this process that no one has waited for, so it seems to run.
    for left in (data / "postmaster.pid", *data.glob(".s.PGSQL.*")):
        left.unlink()
    return command, owner


@pytest.mark.slow
@pytest.mark.postgres
def test_postgres_killed_under_load_and_started_again(calm_fleet: CalmFleet) -> None:
    try:
        with running_server() as server:
            _kill_and_restart(server, calm_fleet)
    except ServerUnavailable as error:
        pytest.skip(str(error))


def _kill_and_restart(server: Server, calm_fleet: CalmFleet) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        # The tests' servers are careless, and lose what was committed when they are killed.
        connection.execute("ALTER SYSTEM SET synchronous_commit = on")
        connection.execute("SELECT pg_reload_conf()")
    name = server.create()
    url = server.url(name)
    fleet = calm_fleet(url=url, n_workers=2)
    data = next(Path(server.folder).rglob("postmaster.pid")).parent
    first = send_until_accepted(fleet, range(N_DOCUMENTS // 2))
    assert first == []
    command, owner = kill_server(data)
    refused = [send(fleet, N_DOCUMENTS // 2) for _ in range(3)]
    search = fleet.ask("POST", "/v1/search", json={"query": "note"})
    assert search is not None
    refused.append(search)
    check_refused(refused)
    quiet = subprocess.DEVNULL
    # The server refuses to be run by root.
    user = owner if os.geteuid() == 0 else None
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, user=user) as restarted:
        try:
            send_until_accepted(fleet, range(N_DOCUMENTS // 2, N_DOCUMENTS))
            check_all_done(fleet, url)
        finally:
            fleet.kill_all()
            restarted.send_signal(signal.SIGINT)
            restarted.wait(30)


@pytest.mark.slow
def test_sqlite_locked_for_long_by_another_process(calm_fleet: CalmFleet, home: Path) -> None:
    fleet = calm_fleet(FAULTS_BUSY_SECONDS="0.5")
    assert send_until_accepted(fleet, range(N_DOCUMENTS // 2)) == []
    locked, unlock = threading.Event(), threading.Event()

    def hold() -> None:
        with sqlite3.connect(home / "footnote.db", isolation_level=None, timeout=30) as connection:
            connection.execute("BEGIN IMMEDIATE")
            locked.set()
            unlock.wait(60)
            connection.execute("ROLLBACK")
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(40)
        check_refused([send(fleet, N_DOCUMENTS // 2) for _ in range(3)])
        shown = fleet.ask("GET", "/v1/documents")
        assert shown is not None
        assert shown.status_code == 200, "who only reads waits for no one"
        time.sleep(2)
    finally:
        unlock.set()
        holder.join()
    send_until_accepted(fleet, range(N_DOCUMENTS // 2, N_DOCUMENTS))
    check_all_done(fleet, "")
