"""`footnote train …`: rerankers, heads and rotations of one's own."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Annotated, Any, cast, get_args

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
from app.services import encoder_spec
from app.settings import Settings
from app.training import export_collection
from indexing.encoding.base import Encoder
from indexing.encoding.factory import DEFAULT_MODEL
from retrievers.training.examples import Say
from retrievers.training.learner import Distillation, Objective
from retrievers.training.loop import Plan
from retrievers.training.run import Data, MakeLearner, Trained, Training, as_json, train

train_app = typer.Typer(
    no_args_is_help=True,
    help="Train on your own questions, on folders in BEIR layout, or on questions made from their texts.",
)

FoldersArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="Folders in BEIR layout to learn from.", exists=True, file_okay=False),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="The folder that is written.")]
CollectionOption = Annotated[
    str | None,
    typer.Option("--collection", "-c", help="Learn from a collection and its golden questions too."),
]
SyntheticOption = Annotated[
    int,
    typer.Option(min=0, help="Make so many questions from each text collection instead of reading its own."),
]
MeasureOption = Annotated[
    list[Path] | None,
    typer.Option("--measure", exists=True, file_okay=False, help="A folder to measure on only; repeatable."),
]
LicenceOption = Annotated[
    list[str] | None, typer.Option("--licence", help="NAME=LICENCE of a data folder, for the model card.")
]
LimitOption = Annotated[int | None, typer.Option(min=20, help="Questions taken of each folder.")]
StepsOption = Annotated[int, typer.Option(min=1, help="Steps of training.")]
BatchOption = Annotated[int, typer.Option("--batch", min=2, help="Questions a step.")]
RateOption = Annotated[float, typer.Option("--learning-rate", min=1e-9, help="The highest learning rate.")]
DistillOption = Annotated[
    str,
    typer.Option(help=f"How the fused ranking is learned from: {', '.join(get_args(Distillation))}."),
]
WeightOption = Annotated[float, typer.Option("--distill-weight", min=0, help="How much that counts.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Everything random follows from it.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with what was stopped.")]


@train_app.command("cross-encoder")
def train_cross_encoder(
    folders: FoldersArgument = None,
    out: OutOption = Path("cross-encoder"),
    collection: CollectionOption = None,
    synthetic: SyntheticOption = 0,
    measure: MeasureOption = None,
    licence: LicenceOption = None,
    base: Annotated[str, typer.Option(help="A BERT in a folder; empty: the default model.")] = "",
    layers: Annotated[int, typer.Option(min=1, help="Layers that are trained, counted from the last.")] = 2,
    max_tokens: Annotated[int, typer.Option(min=16, max=512, help="Longest pair.")] = 256,
    candidates: Annotated[int, typer.Option(min=2, help="Candidates of a question in a step.")] = 6,
    steps: StepsOption = 500,
    batch: BatchOption = 4,
    learning_rate: RateOption = 1e-4,
    distill: DistillOption = "kl",
    distill_weight: WeightOption = 1.0,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a cross-encoder, used with FOOTNOTE_RERANK_MODEL.

    Example: footnote train cross-encoder data/squad data/claims --measure data/cranfield --out my-reranker
    """
    from retrievers.training.cross_encoder import CrossEncoderLearner, CrossEncoderSpec

    objective = _objective(distill, distill_weight)
    settings = read_settings(home)
    options = {"layers": layers, "max_tokens": max_tokens, "candidates": candidates}
    with reported():
        spec = CrossEncoderSpec(
            base=base or _base_folder(settings),
            layers=layers,
            max_tokens=max_tokens,
            group_size=candidates,
            device=_device(device),
            seed=seed,
        )

    def make(_encoder: Encoder, _say: Say) -> MakeLearner:
        return lambda learned, _held: CrossEncoderLearner(spec, learned, objective)

    _run(
        "cross-encoder",
        base or settings.encoder.model,
        make,
        home=home,
        folders=folders,
        out=out,
        collection=collection,
        synthetic=synthetic,
        measure=measure,
        licence=licence,
        plan=Plan(steps=steps, batch_size=batch, learning_rate=learning_rate, seed=seed, weight_decay=0.01),
        options={**options, "distill": distill, "distill_weight": distill_weight},
        limit=limit,
        resume=resume,
        as_json_wanted=as_json,
    )


@train_app.command("late")
def train_late(
    folders: FoldersArgument = None,
    out: OutOption = Path("late"),
    collection: CollectionOption = None,
    synthetic: SyntheticOption = 0,
    measure: MeasureOption = None,
    licence: LicenceOption = None,
    dim: Annotated[int, typer.Option(min=2, help="Numbers of a token vector; all: no reduction.")] = 128,
    candidates: Annotated[int, typer.Option(min=2, help="Candidates of a question in a step.")] = 8,
    steps: StepsOption = 500,
    batch: BatchOption = 16,
    learning_rate: RateOption = 2e-4,
    distill: DistillOption = "kl",
    distill_weight: WeightOption = 1.0,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a head for late interaction on kept token vectors, used with FOOTNOTE_ENCODER_MODEL.

    Example: footnote train late data/squad --synthetic 2000 --dim 96 --out my-late
    """
    from retrievers.training.late import LateLearner, LateSpec

    objective = _objective(distill, distill_weight)
    settings = read_settings(home)
    with reported():
        spec = LateSpec(base=Path(_base_folder(settings)), dim=dim, group_size=candidates)

    def make(encoder: Encoder, say: Say) -> MakeLearner:
        return lambda learned, held: LateLearner(spec, encoder, learned, held, objective, say)

    _run(
        "late",
        settings.encoder.model,
        make,
        home=home,
        folders=folders,
        out=out,
        collection=collection,
        synthetic=synthetic,
        measure=measure,
        licence=licence,
        plan=Plan(steps=steps, batch_size=batch, learning_rate=learning_rate, seed=seed),
        options={
            "dim": dim,
            "candidates": candidates,
            "distill": distill,
            "distill_weight": distill_weight,
        },
        limit=limit,
        resume=resume,
        as_json_wanted=as_json,
    )


@train_app.command("matryoshka")
def train_matryoshka(
    folders: FoldersArgument = None,
    out: OutOption = Path("matryoshka"),
    collection: CollectionOption = None,
    synthetic: SyntheticOption = 0,
    measure: MeasureOption = None,
    licence: LicenceOption = None,
    dim: Annotated[
        list[int] | None,
        typer.Option(min=1, help="A prefix to train; repeatable. [default: 32 64 128]"),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Train all of this sentence-transformers model; empty: a rotation.")
    ] = "",
    layers: Annotated[
        int, typer.Option(min=0, help="With --model: other layers trained a step (2D-Matryoshka).")
    ] = 0,
    candidates: Annotated[int, typer.Option(min=2, help="Candidates of a question in a step.")] = 4,
    steps: StepsOption = 500,
    batch: BatchOption = 32,
    learning_rate: RateOption = 1e-3,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train vectors that may be cut: a rotation, used with FOOTNOTE_ENCODER_ROTATION, or a whole model.

    Example: footnote train matryoshka data/squad --dim 64 --dim 128 --out my-rotation
    """
    from retrievers.training.matryoshka import MatryoshkaSpec, RotationLearner, WholeModelLearner

    settings = read_settings(home)
    dims = tuple(sorted(set(dim or (32, 64, 128))))
    spec = MatryoshkaSpec(
        dims=dims, model=model or None, layers=layers, group_size=candidates, device=_device(device)
    )

    def make(encoder: Encoder, say: Say) -> MakeLearner:
        if spec.model is not None:
            return lambda learned, _held: WholeModelLearner(spec, learned)
        return lambda learned, held: RotationLearner(spec, encoder, learned, held, say)

    _run(
        "matryoshka",
        model or settings.encoder.model,
        make,
        home=home,
        folders=folders,
        out=out,
        collection=collection,
        synthetic=synthetic,
        measure=measure,
        licence=licence,
        plan=Plan(steps=steps, batch_size=batch, learning_rate=learning_rate, seed=seed),
        options={"dims": list(dims), "layers": layers, "candidates": candidates},
        limit=limit,
        resume=resume,
        as_json_wanted=as_json,
    )


def _run(
    kind: str,
    base: str,
    make: Callable[[Encoder, Say], MakeLearner],
    *,
    home: Path | None,
    folders: list[Path] | None,
    out: Path,
    collection: str | None,
    synthetic: int,
    measure: list[Path] | None,
    licence: list[str] | None,
    plan: Plan,
    options: Mapping[str, Any],
    limit: int | None,
    resume: bool,
    as_json_wanted: bool,
) -> None:
    """Gathers the data, trains, and tells the end; exit code 1 where it was stopped before it."""
    if not folders and collection is None:
        raise typer.BadParameter("name folders, or a --collection", param_hint="DATA")
    licences = _licences(licence)
    settings = read_settings(home)
    with reported(), _stopping() as stop, progress(errors, quiet=as_json_wanted) as say:
        data = [
            Data(folder=folder, synthetic=synthetic, licence=licences.get(folder.resolve().name))
            for folder in folders or ()
        ]
        if collection is not None:
            data.append(_from_collection(home, collection, out, synthetic, licences))
        data += [
            Data(folder=folder, measured=True, licence=licences.get(folder.resolve().name))
            for folder in measure or ()
        ]
        encoder = EncoderPool(settings.models_dir).get(encoder_spec(settings.encoder))
        training = Training(
            kind=kind,
            base=base,
            data=tuple(data),
            out=out,
            plan=plan,
            limit=limit,
            command=shlex.join(["footnote", *(word for word in sys.argv[1:] if word != "--resume")]),
            options=options,
        )
        today = datetime.now(UTC).date()
        trained = train(training, encoder, make(encoder, say), resume=resume, stop=stop, say=say, today=today)
    if as_json_wanted:
        print_json(as_json(trained))
    else:
        _print(trained, out)
    if not trained.finished:
        raise typer.Exit(1)


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


def _objective(distill: str, weight: float) -> Objective:
    if distill not in get_args(Distillation):
        raise typer.BadParameter(f"one of {', '.join(get_args(Distillation))}", param_hint="--distill")
    return Objective(distillation=cast(Distillation, distill), weight=weight)


def _licences(given: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in given or ()]
    if any(not name or not text for name, _, text in pairs):
        raise typer.BadParameter("NAME=LICENCE", param_hint="--licence")
    return {name: text for name, _, text in pairs}


def _base_folder(settings: Settings) -> str:
    """The folder of the transformer behind the encoder of the settings."""
    if settings.encoder.model != DEFAULT_MODEL:
        return settings.encoder.model
    from indexing.encoding.minilm_pack import installed_folder

    return str(installed_folder())


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
