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

from app.errors import FootnoteError
from app.filing import Say
from app.folders import identity_of
from app.sync_plans import Options
from app.syncing import Report, sync

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

    A folder that is missing, and a sync that would delete too much, are told to `on_trouble` once and tried
    again later.
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
            except FootnoteError as error:
                if error.code != told:
                    on_trouble(error)
                told = error.code
                stop.wait(settings.poll_seconds)
                break  # another folder may be at its place now
            told = ""


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
