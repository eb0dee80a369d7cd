"""`footnote db …` and `footnote doctor`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Annotated

import typer

from app import memory
from app.cli.context import HomeOption, JsonOption, console, print_json, read_settings, reported
from app.db import collections, jobs, migration, versions
from app.db.engine import create_engine
from app.services import Services, open_services
from app.settings import Settings, unknown_variables
from app.versions import verifying
from indexing.errors import IndexVersionError

db_app = typer.Typer(no_args_is_help=True, help="The database's schema.")

LOW_DISK_BYTES = 1024**3


@db_app.command("upgrade")
def upgrade_database(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Bring the database to this version's schema. `serve` and `worker` do the same when they start."""
    settings = read_settings(home)
    with reported():
        settings.home.mkdir(parents=True, exist_ok=True)
        engine = create_engine(settings.database_url)
        migration.upgrade(engine)
        _print_revision(migration.current(engine), as_json)


@db_app.command("current")
def current_revision(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The schema revision of the database, and the one that this version needs."""
    settings = read_settings(home)
    with reported():
        engine = create_engine(settings.database_url)
        _print_revision(migration.current(engine), as_json)


def _print_revision(current: str | None, as_json: bool) -> None:
    needed = migration.head()
    if as_json:
        print_json({"current": current, "head": needed, "up_to_date": current == needed})
    else:
        console.print(
            f"{current or 'no schema yet'}" + ("" if current == needed else f" (this version needs {needed})")
        )


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; `advice` says what to do where it is not well."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


def doctor_command(
    home: HomeOption = None,
    deep: Annotated[bool, typer.Option(help="Verify the checksums of every served index too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at everything that a healthy installation needs, and say what to do about what is not well."""
    settings = read_settings(home)
    checks = [
        _check("settings", _settings_check),
        _check("disk", lambda: _disk_check(settings)),
        _check("memory", lambda: _memory_check(settings)),
    ]
    try:
        with open_services(settings) as services:
            checks += [
                _check(
                    "database",
                    lambda: f"{services.engine.dialect.name}, schema {migration.current(services.engine)}",
                ),
                _check("encoder", lambda: _encoder_check(services)),
                _check("jobs", lambda: _jobs_check(services)),
                _check("indexes", lambda: _indexes_check(services, deep)),
            ]
    except Exception as error:
        checks.append(
            Check(
                "database", False, f"{type(error).__name__}: {error}", "see FOOTNOTE_DATABASE_URL and --home"
            )
        )
    if as_json:
        print_json(
            {
                "version": version("footnote"),
                "ok": all(c.ok for c in checks),
                "checks": [asdict(c) for c in checks],
            }
        )
    else:
        for check in checks:
            advice = f" — {check.advice}" if check.advice and not check.ok else ""
            console.print(
                f"{'ok  ' if check.ok else 'BAD '} {check.name:9} {check.detail}{advice}",
                markup=False,
                soft_wrap=True,
            )
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


class Unwell(Exception):
    """A check that found something; the advice says what to do."""

    def __init__(self, detail: str, advice: str) -> None:
        super().__init__(detail)
        self.advice = advice


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except Unwell as found:
        return Check(name, False, str(found), found.advice)
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}")


def _settings_check() -> str:
    if unknown := unknown_variables():
        raise Unwell(
            f"not a setting: {', '.join(unknown)}",
            "see the settings page of the manual for the right spelling",
        )
    return "every FOOTNOTE_ variable is known"


def _disk_check(settings: Settings) -> str:
    folder = settings.home if settings.home.exists() else settings.home.parent
    free = shutil.disk_usage(folder).free
    if free < LOW_DISK_BYTES:
        raise Unwell(
            f"{free / 1e9:.1f} GB free at {settings.home}",
            "make room, or choose another data folder with --home",
        )
    return f"{free / 1e9:.0f} GB free at {settings.home}"


def _memory_check(settings: Settings) -> str:
    worker, service = settings.worker.memory_bytes, settings.server.memory_bytes
    loaders = settings.worker.loaders * settings.loader.memory_bytes
    found = f"ceilings: worker {_gib(worker)} and its loaders {_gib(loaders)}, service {_gib(service)}"
    there = memory.machine_bytes()
    if there is not None and max(worker, service) > there:
        raise Unwell(
            f"{found}; this machine has {_gib(there)}",
            "lower FOOTNOTE_WORKER_MEMORY_BYTES and FOOTNOTE_SERVER_MEMORY_BYTES below it",
        )
    if not memory.is_kept():
        return f"{found}; this system does not enforce them"
    return found if there is None else f"{found}; this machine has {_gib(there)}"


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 1024**3:.1f} GiB"


def _encoder_check(services: Services) -> str:
    encoder = services.encoders.get(services.encoder_spec())
    vector = encoder.encode_queries(["hello"]).vectors
    return f"{encoder.name}, {vector.shape[1]} dimensions, fingerprint {encoder.fingerprint}"


def _jobs_check(services: Services) -> str:
    with services.read() as session:
        counts = jobs.counts(session)
        waiting = jobs.oldest_waiting_seconds(session)
    n_failed = sum(n for (_, status), n in counts.items() if status == "failed")
    if waiting > 600:
        raise Unwell(
            f"a job has waited {waiting / 60:.0f} minutes", "start `footnote worker`, or look at its log"
        )
    return f"{sum(counts.values())} jobs, {n_failed} failed"


def _indexes_check(services: Services, deep: bool) -> str:
    with services.read() as session:
        rows = [(row.name, versions.active(session, row.id)) for row in collections.list_all(session)]
    n_checked = 0
    for name, row in rows:
        if row is None:
            continue
        advice = f"footnote index repair --collection {name}"
        try:
            services.indexes.open(row.id)
        except IndexVersionError as error:
            raise Unwell(f"{name}: {error}", advice) from error
        if deep and (found := verifying.verify(services, row.id).problems):
            raise Unwell(f"{name}: {found[0].detail}", advice)
        n_checked += 1
    return f"{n_checked} served indexes can be opened" + (" and are sound" if deep else "")
