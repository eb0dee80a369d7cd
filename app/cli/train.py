"""`footnote train …`: rerankers, heads and rotations of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from app.cli.context import read_settings, reported
from app.cli.options import check_one_of, with_options
from app.cli.training_run import TrainOptions, run
from app.settings import Settings
from indexing.encoding.base import Encoder
from indexing.encoding.factory import DEFAULT_MODEL
from retrievers.training.examples import Say
from retrievers.training.learner import Distillation, Objective
from retrievers.training.loop import Plan
from retrievers.training.run import MakeLearner

train_app = typer.Typer(
    no_args_is_help=True,
    help="Train on your own questions, on folders in BEIR layout, or on questions made from their texts.",
)

OutOption = Annotated[Path, typer.Option("--out", "-o", help="The folder that is written.")]
BatchOption = Annotated[int, typer.Option("--batch", min=2, help="Questions a step.")]
RateOption = Annotated[float, typer.Option("--learning-rate", min=1e-9, help="The highest learning rate.")]
DistillOption = Annotated[
    str,
    typer.Option(help=f"How the fused ranking is learned from: {', '.join(get_args(Distillation))}."),
]
WeightOption = Annotated[float, typer.Option("--distill-weight", min=0, help="How much that counts.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


@train_app.command("cross-encoder")
@with_options(TrainOptions)
def train_cross_encoder(
    shared: TrainOptions,
    out: OutOption = Path("cross-encoder"),
    base: Annotated[str, typer.Option(help="A BERT in a folder; empty: the default model.")] = "",
    layers: Annotated[int, typer.Option(min=1, help="Layers that are trained, counted from the last.")] = 2,
    max_tokens: Annotated[int, typer.Option(min=16, max=512, help="Longest pair.")] = 256,
    candidates: Annotated[int, typer.Option(min=2, help="Candidates of a question in a step.")] = 6,
    batch: BatchOption = 4,
    learning_rate: RateOption = 1e-4,
    distill: DistillOption = "kl",
    distill_weight: WeightOption = 1.0,
    device: DeviceOption = "auto",
) -> None:
    """Train a cross-encoder, used with FOOTNOTE_RERANK_MODEL.

    Example: footnote train cross-encoder data/squad data/claims --measure data/cranfield --out my-reranker
    """
    from retrievers.training.cross_encoder import CrossEncoderLearner, CrossEncoderSpec

    objective = _objective(distill, distill_weight)
    settings = read_settings(shared.home)
    options = {"layers": layers, "max_tokens": max_tokens, "candidates": candidates}
    with reported():
        spec = CrossEncoderSpec(
            base=base or _base_folder(settings),
            layers=layers,
            max_tokens=max_tokens,
            group_size=candidates,
            device=_device(device),
            seed=shared.seed,
        )

    def make(_encoder: Encoder, _say: Say) -> MakeLearner:
        return lambda learned, _held: CrossEncoderLearner(spec, learned, objective)

    run(
        shared,
        make,
        kind="cross-encoder",
        base=base or settings.encoder.model,
        out=out,
        plan=Plan(
            steps=shared.steps,
            batch_size=batch,
            learning_rate=learning_rate,
            seed=shared.seed,
            weight_decay=0.01,
        ),
        options={**options, "distill": distill, "distill_weight": distill_weight},
    )


@train_app.command("late")
@with_options(TrainOptions)
def train_late(
    shared: TrainOptions,
    out: OutOption = Path("late"),
    dim: Annotated[int, typer.Option(min=2, help="Numbers of a token vector; all: no reduction.")] = 128,
    candidates: Annotated[int, typer.Option(min=2, help="Candidates of a question in a step.")] = 8,
    batch: BatchOption = 16,
    learning_rate: RateOption = 2e-4,
    distill: DistillOption = "kl",
    distill_weight: WeightOption = 1.0,
) -> None:
    """Train a head for late interaction on kept token vectors, used with FOOTNOTE_ENCODER_MODEL.

    Example: footnote train late data/squad --synthetic 2000 --dim 96 --out my-late
    """
    from retrievers.training.late import LateLearner, LateSpec

    objective = _objective(distill, distill_weight)
    settings = read_settings(shared.home)
    with reported():
        spec = LateSpec(base=Path(_base_folder(settings)), dim=dim, group_size=candidates)

    def make(encoder: Encoder, say: Say) -> MakeLearner:
        return lambda learned, held: LateLearner(spec, encoder, learned, held, objective, say)

    run(
        shared,
        make,
        kind="late",
        base=settings.encoder.model,
        out=out,
        plan=Plan(steps=shared.steps, batch_size=batch, learning_rate=learning_rate, seed=shared.seed),
        options={
            "dim": dim,
            "candidates": candidates,
            "distill": distill,
            "distill_weight": distill_weight,
        },
    )


@train_app.command("matryoshka")
@with_options(TrainOptions)
def train_matryoshka(
    shared: TrainOptions,
    out: OutOption = Path("matryoshka"),
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
    batch: BatchOption = 32,
    learning_rate: RateOption = 1e-3,
    device: DeviceOption = "auto",
) -> None:
    """Train vectors that may be cut: a rotation, used with FOOTNOTE_ENCODER_ROTATION, or a whole model.

    Example: footnote train matryoshka data/squad --dim 64 --dim 128 --out my-rotation
    """
    from retrievers.training.matryoshka import MatryoshkaSpec, RotationLearner, WholeModelLearner

    settings = read_settings(shared.home)
    dims = tuple(sorted(set(dim or (32, 64, 128))))
    spec = MatryoshkaSpec(
        dims=dims, model=model or None, layers=layers, group_size=candidates, device=_device(device)
    )

    def make(encoder: Encoder, say: Say) -> MakeLearner:
        if spec.model is not None:
            return lambda learned, _held: WholeModelLearner(spec, learned)
        return lambda learned, held: RotationLearner(spec, encoder, learned, held, say)

    run(
        shared,
        make,
        kind="matryoshka",
        base=model or settings.encoder.model,
        out=out,
        plan=Plan(steps=shared.steps, batch_size=batch, learning_rate=learning_rate, seed=shared.seed),
        options={"dims": list(dims), "layers": layers, "candidates": candidates},
    )


def _objective(distill: str, weight: float) -> Objective:
    check_one_of(distill, get_args(Distillation), "--distill")
    return Objective(distillation=cast(Distillation, distill), weight=weight)


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
