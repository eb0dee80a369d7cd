"""A small collection to learn from, and runs over it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np

from retrievers.training.loop import Plan
from retrievers.training.run import Data, MakeLearner, Trained, Training, train
from tests.unit.indexing.encoding.tiny_model import WORDS


class Killed(BaseException):
    """Stands for a process that ends at once."""


def write_data(folder: Path, *, n: int = 40, seed: int = 0) -> Path:
    """n documents of twelve words; the question of each is four of them, in another order."""
    rng = np.random.default_rng(seed)
    words = np.array(WORDS)
    documents, queries, qrels = [], [], ["query-id\tcorpus-id\tscore"]
    for number in range(n):
        chosen = rng.choice(words, 12, replace=False)
        asked = rng.choice(chosen, 4, replace=False)
        text = f"{' '.join(chosen[:6])}. {' '.join(chosen[6:])}."
        documents.append({"_id": f"d{number}", "title": f"{chosen[0]} {chosen[1]}", "text": text})
        queries.append({"_id": f"q{number}", "text": " ".join(asked)})
        qrels.append(f"q{number}\td{number}\t1")
    (folder / "qrels").mkdir(parents=True)
    for name, records in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "qrels" / "test.tsv").write_text("\n".join(qrels) + "\n")
    return folder


def training(out: Path, data: Path, *, steps: int = 14, rate: float = 1e-3, batch: int = 16) -> Training:
    plan = Plan(steps=steps, batch_size=batch, learning_rate=rate, seed=3, checkpoint_steps=5)
    return Training(
        kind="test",
        base="tiny",
        data=(Data(folder=data, licence="CC0"),),
        out=out,
        plan=plan,
        n_candidates=8,
        options={"size": 4},
    )


def run(
    what: Training,
    encoder: object,
    make: MakeLearner,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    kill_after: int | None = None,
) -> Trained:
    """Trains; told to stop, or killed, after so many steps."""
    done = 0

    def say(stage: str, at: int, _: int) -> None:
        nonlocal done
        if stage == "train":
            done = at
            if kill_after is not None and at > kill_after:
                raise Killed

    return train(
        what,
        encoder,
        make,
        resume=resume,
        stop=lambda: stop_after is not None and done >= stop_after,
        say=say,
        today=date(2026, 1, 2),
    )
