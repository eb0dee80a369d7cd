"""A whole training: data → examples → learner → measured before → steps → measured after → model and card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from indexing.encoding.base import Encoder
from indexing.files import replace_file
from retrievers.evaluation.beir import BeirCollection, corpus_of, load_collection
from retrievers.training.card import Card, Source
from retrievers.training.errors import TrainingError
from retrievers.training.examples import (
    Example,
    Say,
    load_examples,
    mine,
    parted,
    save_examples,
    without_doubtful,
)
from retrievers.training.learner import Learner
from retrievers.training.loop import Plan, fit
from retrievers.training.measure import Measured, means, measured, teacher_scores
from retrievers.training.synthetic import write_synthetic

WORK = "work"
"""What a training that is not finished needs to go on; removed at its end."""
CARD = "README.md"

MakeLearner = Callable[[Sequence[Example], Sequence[Example]], Learner]
"""From the examples to learn from and those held out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A folder in BEIR layout. `synthetic` questions are made from its texts instead of its own; of one that
    is only `measured`, nothing is learned."""

    folder: Path
    split: str | None = None
    synthetic: int = 0
    measured: bool = False
    licence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """`n_candidates` are kept of each query's fused ranking; `limit` queries are taken of each folder.

    Of these candidates negatives with more than `max_negative` of the score of what is relevant are not
    learned from, though measured with; None takes all.
    """

    kind: str
    base: str
    data: tuple[Data, ...]
    out: Path
    plan: Plan
    n_candidates: int = 30
    limit: int | None = None
    max_negative: float | None = None
    command: str = "footnote train"
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """`finished` is false where it was told to stop: the same command with --resume goes on."""

    finished: bool
    losses: tuple[float, ...]
    use: str
    measured: Mapping[str, Measured]


def train(
    training: Training,
    encoder: Encoder,
    make: MakeLearner,
    *,
    resume: bool,
    stop: Callable[[], bool],
    say: Say,
    today: date,
) -> Trained:
    """Trains, measures before and after on what was held out, and writes the model with its card.

    Raises:
        TrainingError: the folder is in use, nothing can be learned, or what was begun cannot be taken up.
        EvaluationError: the data cannot be read.
        EncoderError: a model cannot be loaded.
    """
    out = training.out
    if not resume and out.exists() and any(out.iterdir()):
        raise TrainingError(f"{out} is not empty: go on with --resume, or name another folder.")
    if resume and not (out / WORK).is_dir():
        raise TrainingError(f"{out} holds nothing to go on with.")
    (out / WORK).mkdir(parents=True, exist_ok=True)
    _check_same(out / WORK / "training.json", training)
    examples = _examples(training, encoder, say)
    only_measured = {name for name, data in _names(training).items() if data.measured}
    learned, held = parted([example for example in examples if example.collection not in only_measured])
    learned = without_doubtful(learned, training.max_negative)
    if not learned:
        raise TrainingError(
            f"No question has a negative with at most {training.max_negative:g} of the score of what is "
            "relevant: let --max-negative be higher."
        )
    held += [example for example in examples if example.collection in only_measured]
    learner = make(learned, held)
    use = learner.use.format(folder=out)
    before = _before(out / WORK / "before.json", learner, held, say)
    fitted = fit(
        learner.module,
        learner.loss_of,
        len(learned),
        training.plan,
        out / WORK / "checkpoint.pt",
        resume=resume,
        stop=stop,
        say=say,
    )
    if not fitted.finished:
        return Trained(finished=False, losses=fitted.losses, use=use, measured={})
    say("measure", 0, 1)
    found = measured(before, means(held, learner.score), means(held, teacher_scores))
    say("measure", 1, 1)
    learner.save(out, held)
    tenth = max(len(fitted.losses) // 10, 1)
    card = Card(
        kind=training.kind,
        base=training.base,
        command=training.command,
        use=use,
        plan=training.plan,
        options={**training.options, "max_negative": training.max_negative},
        sources=_sources(training, learned, held),
        measured=found,
        first_loss=float(np.mean(fitted.losses[:tenth])),
        last_loss=float(np.mean(fitted.losses[-tenth:])),
        day=today,
    )
    replace_file(out / CARD, card.markdown().encode())
    shutil.rmtree(out / WORK)
    return Trained(finished=True, losses=fitted.losses, use=use, measured=found)


def _check_same(path: Path, training: Training) -> None:
    """Raises TrainingError where the work in the folder was begun with other data or options."""
    said = {
        "kind": training.kind,
        "base": training.base,
        "data": [{**asdict(data), "folder": str(data.folder.resolve())} for data in training.data],
        "plan": asdict(training.plan),
        "n_candidates": training.n_candidates,
        "limit": training.limit,
        "max_negative": training.max_negative,
        "options": dict(training.options),
    }
    text = json.dumps(said, indent=2, default=str)
    if path.exists() and path.read_text("utf-8") != text:
        raise TrainingError(
            f"{path.parent} was begun with other data or options: {path} names them. Use the same, or "
            "another folder."
        )
    replace_file(path, text.encode())


def _names(training: Training) -> dict[str, Data]:
    """The data by the name of its collection. Raises TrainingError where two have the same."""
    names: dict[str, Data] = {}
    for data in training.data:
        name = data.folder.resolve().name + ("-synthetic" if data.synthetic else "")
        if name in names:
            raise TrainingError(f"Two folders are called {name}: their results could not be told apart.")
        names[name] = data
    return names


def _examples(training: Training, encoder: Encoder, say: Say) -> list[Example]:
    """The examples of all data, found once and kept for a training that goes on."""
    work = training.out / WORK
    kept = work / "examples.jsonl"
    if kept.exists():
        return load_examples(kept)
    examples: list[Example] = []
    for name, data in _names(training).items():
        found = mine(
            _collection(name, data, work, training.plan.seed),
            encoder,
            work / "indexes",
            n_candidates=training.n_candidates,
            limit=training.limit,
            say=say,
        )
        examples.extend(found)
    save_examples(examples, kept)
    return examples


def _collection(name: str, data: Data, work: Path, seed: int) -> BeirCollection:
    if not data.synthetic:
        return load_collection(data.folder, data.split)
    write_synthetic(corpus_of(data.folder), work / name, n=data.synthetic, seed=seed)
    return load_collection(work / name)


def _before(path: Path, learner: Learner, held: Sequence[Example], say: Say) -> dict[str, list[float]]:
    """What the learner reached before its first step; kept, since later it is another."""
    if path.exists():
        return dict(json.loads(path.read_text("utf-8")))
    say("measure", 0, 1)
    values = means(held, learner.score)
    say("measure", 1, 1)
    replace_file(path, json.dumps(values).encode())
    return values


def _sources(training: Training, learned: Sequence[Example], held: Sequence[Example]) -> list[Source]:
    return [
        Source(
            name=name,
            licence=data.licence,
            n_learned=sum(example.collection == name for example in learned),
            n_held=sum(example.collection == name for example in held),
            synthetic=data.synthetic > 0,
        )
        for name, data in _names(training).items()
    ]


def as_json(trained: Trained) -> dict[str, Any]:
    """What `footnote train --json` prints."""
    return {
        "finished": trained.finished,
        "steps": len(trained.losses),
        "use": trained.use,
        "measured": {name: asdict(values) for name, values in trained.measured.items()},
    }
