"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Say = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

LINE_SECONDS = 5.0


@contextmanager
def progress(console: Console, *, quiet: bool = False) -> Iterator[Say]:
    """A way to say how far the work is; with `quiet` nothing is shown."""
    if quiet:
        yield lambda _stage, _done, _total: None
    elif console.is_terminal:
        with _bars(console) as say:
            yield say
    else:
        yield _lines(console)


@contextmanager
def _bars(console: Console) -> Iterator[Say]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def say(stage: str, done: int, total: int) -> None:
            task = tasks.get(stage)
            if task is None:
                task = tasks[stage] = bars.add_task(stage, total=total, rate="")
            speed = bars.tasks[task].speed
            bars.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

        yield say


def _lines(console: Console) -> Say:
    started: dict[str, float] = {}
    last: dict[str, float] = {}

    def say(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        begun = started.setdefault(stage, now)
        if done < total and now - last.get(stage, -LINE_SECONDS) < LINE_SECONDS:
            return
        last[stage] = now
        rate = done / (now - begun) if now > begun else 0.0
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        console.print(f"{stage}: {done}/{total}{f', {rate:.1f}/s' if rate else ''}{left}")

    return say
