"""A folder followed: synced whenever something in it changes, until told to stop.

That something changed only says when to look; what changed is found by looking. So no announcement that is
lost, doubled or late makes the collection wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import watchfiles

from app.db.errors import DatabaseError
from app.errors import FootnoteError, Unavailable
from app.files.filing import Say
from app.files.folders import identity_of
from app.files.sync_plans import Options
from app.files.syncing import Report, sync
from app.outages import described, outage_of
from indexing.errors import IndexingError

if TYPE_CHECKING:
    from app.services import Services

LOOK_SECONDS = 600.0
"""The folder is looked at this often even where the system announces changes: network disks do not."""
TICK_SECONDS = 0.5


def watch(
    services: Services,
    collection: str,
    folder: Path,
    options: Options,
    stop: Event,
    *,
    on_report: Callable[[Report], None],
    on_trouble: Callable[[FootnoteError], None],
    say: Say,
) -> None:
    """Syncs now and after every change until `stop` is set.

    A folder that is missing, a sync that would delete too much, and a database, disk or index that cannot be
    used now are told to `on_trouble` once and tried again later.
    """
    settings = services.settings.sync
    options = replace(options, settle_seconds=settings.settle_seconds)
    told = ""
    while not stop.is_set():
        for _ in looks(folder, stop, settings.poll_seconds):
            try:
                report = sync(services, collection, folder, options, say=say)
                on_report(report)
                while report.n_unsettled and not stop.wait(settings.settle_seconds):
                    report = sync(services, collection, folder, options, say=say)
                    on_report(report)
            except Exception as error:
                trouble = _trouble_of(error)
                if trouble is None:
                    raise
                if trouble.code != told:
                    on_trouble(trouble)
                told = trouble.code
                stop.wait(settings.poll_seconds)
                break  # another folder may be at its place now
            told = ""


def _trouble_of(error: Exception) -> FootnoteError | None:
    """What is to be told and waited for; None where waiting does not help."""
    if isinstance(error, FootnoteError):
        return error
    if isinstance(error, DatabaseError | IndexingError):  # such as a collection that was deleted meanwhile
        return Unavailable(str(error), code=error.code)
    code = outage_of(error)
    return None if code is None else Unavailable(described(error), code=code)


def looks(folder: Path, stop: Event, poll_seconds: float) -> Iterator[None]:
    """Each time the folder should be looked at: at once, and when it changed; ends when it is another one.

    Changes are announced by the system where it can, else the folder is to be looked at every `poll_seconds`.
    """
    identity = identity_of(folder)
    try:
        announced = _announced(folder, stop)
        next(announced, None)  # from here on changes are noted, so none is lost during the first look
        yield
        for is_due in announced:
            if identity_of(folder) != identity:
                return
            if is_due:
                yield
    except (OSError, RuntimeError):
        # The folder is missing, or the system follows no more folders than it is set to.
        yield
        while not stop.wait(poll_seconds) and identity_of(folder) == identity:
            yield


def _announced(folder: Path, stop: Event) -> Iterator[bool]:
    """Twice a second, and at once when something changed: whether the folder should be looked at."""
    quiet_seconds = 0.0
    for changes in watchfiles.watch(
        folder,
        stop_event=stop,
        rust_timeout=round(TICK_SECONDS * 1000),
        yield_on_timeout=True,
        watch_filter=None,
    ):
        is_due = bool(changes) or quiet_seconds >= LOOK_SECONDS
        quiet_seconds = 0.0 if is_due else quiet_seconds + TICK_SECONDS
        yield is_due
