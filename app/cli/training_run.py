"""The run behind each `footnote train …`: from what it was told to what it prints."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Annotated, Any

import typer
from rich.table import Table

from app.cli.context import (
    HomeOption,
    JsonOption,
    console,
    errors,
    print_json,
    read_settings,
    reported,
    services_for,
)
from app.cli.progress import progress
from app.encoders import EncoderPool
from app.learning.training import export_collection
from app.services import encoder_spec
from indexing.encoding.base import Encoder
from retrievers.training.examples import Say
from retrievers.training.loop import Plan
from retrievers.training.run import Data, MakeLearner, Trained, Training, as_json, train


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """What every kind of training is told: the data, how long, and where things are."""

    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders in BEIR layout to learn from.", exists=True, file_okay=False),
    ] = None
    collection: Annotated[
        str | None,
        typer.Option("--collection", "-c", help="Learn from a collection and its golden questions too."),
    ] = None
    synthetic: Annotated[
        int,
        typer.Option(
            min=0, help="Make so many questions from each text collection instead of reading its own."
        ),
    ] = 0
    measure: Annotated[
        list[Path] | None,
        typer.Option(
            "--measure", exists=True, file_okay=False, help="A folder to measure on only; repeatable."
        ),
    ] = None
    licence: Annotated[
        list[str] | None, typer.Option("--licence", help="NAME=LICENCE of a data folder, for the model card.")
    ] = None
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 500
    limit: Annotated[int | None, typer.Option(min=20, help="Questions taken of each folder.")] = None
    max_negative: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=10,
            help="Learn from no negative with more than this share of the fused score of what is relevant: "
            "it may be relevant and not judged. 0.95 is common. [default: all]",
            show_default=False,
        ),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from it.")] = 0
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was stopped.")] = False
    home: HomeOption = None
    as_json: JsonOption = False


def run(
    shared: TrainOptions,
    make: Callable[[Encoder, Say], MakeLearner],
    *,
    kind: str,
    base: str,
    out: Path,
    plan: Plan,
    options: Mapping[str, Any],
) -> None:
    """Gathers the data, trains, and tells the end; exit code 1 where it was stopped before it."""
    if not shared.folders and shared.collection is None:
        raise typer.BadParameter("name folders, or a --collection", param_hint="DATA")
    licences = _licences(shared.licence)
    settings = read_settings(shared.home)
    with reported(), _stopping() as stop, progress(errors, quiet=shared.as_json) as say:
        data = _data(shared, out, licences)
        encoder = EncoderPool(settings.models_dir).get(encoder_spec(settings.encoder))
        training = Training(
            kind=kind,
            base=base,
            data=data,
            out=out,
            plan=plan,
            limit=shared.limit,
            max_negative=shared.max_negative,
            command=shlex.join(["footnote", *(word for word in sys.argv[1:] if word != "--resume")]),
            options=options,
        )
        today = datetime.now(UTC).date()
        trained = train(
            training, encoder, make(encoder, say), resume=shared.resume, stop=stop, say=say, today=today
        )
    if shared.as_json:
        print_json(as_json(trained))
    else:
        _print(trained, out)
    if not trained.finished:
        raise typer.Exit(1)


def _data(shared: TrainOptions, out: Path, licences: Mapping[str, str]) -> tuple[Data, ...]:
    def licence(folder: Path) -> str | None:
        return licences.get(folder.resolve().name)

    data = [
        Data(folder=folder, synthetic=shared.synthetic, licence=licence(folder))
        for folder in shared.folders or ()
    ]
    if shared.collection is not None:
        data.append(_from_collection(shared.home, shared.collection, out, shared.synthetic, licences))
    data += [Data(folder=folder, measured=True, licence=licence(folder)) for folder in shared.measure or ()]
    return tuple(data)


def _from_collection(
    home: Path | None, name: str, out: Path, synthetic: int, licences: Mapping[str, str]
) -> Data:
    """The collection as a folder beside what is written; without questions of its own some are made."""
    folder = out.with_name(f"{out.name}.data") / name
    with services_for(home) as services:
        n_questions = export_collection(services, name, folder)
    made = synthetic or (0 if n_questions else 500)
    return Data(folder=folder, synthetic=made, licence=licences.get(name))


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, or SIGTERM, once: stop after this step; a second time: at once."""
    asked = Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            signal.default_int_handler(number, frame)
        asked.set()
        errors.print("stopping after this step; again to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(trained: Trained, out: Path) -> None:
    if not trained.finished:
        console.print(f"Stopped after {len(trained.losses)} steps; the same command with --resume goes on.")
        return
    table = Table("collection", "questions", "fused", "before", "after", box=None, pad_edge=False)
    for name, values in trained.measured.items():
        numbers = (values.fused, values.before, values.after)
        table.add_row(name, str(values.n_queries), *(f"{number:.4f}" for number in numbers))
    console.print(table)
    console.print(f"Written to {out}. Use it with {trained.use}", markup=False, soft_wrap=True)


def _licences(given: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in given or ()]
    if any(not name or not text for name, _, text in pairs):
        raise typer.BadParameter("NAME=LICENCE", param_hint="--licence")
    return {name: text for name, _, text in pairs}
