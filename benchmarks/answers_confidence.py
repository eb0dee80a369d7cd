"""Fits when to abstain, and measures it on collections that the fit has not seen.

Answerable are the answerable questions of each collection. Not answerable are a collection's own questions of
that kind, and questions of one collection asked to another one (off topic). Every set weighs the same. Left
out for a measurement is a collection with all the pairs its questions take part in.

    python -m benchmarks.answers_confidence ../shared/data --json answers_confidence.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.generation.candidates import candidates
from app.generation.extractive import DEFAULT_MIN_CONFIDENCE
from app.generation.scoring import score
from benchmarks.indexed_collection import IndexedCollection, read_lines, sample
from indexing.encoding.factory import EncoderSpec, load_encoder

Doubles = NDArray[np.float64]
Record = Mapping[str, Any]

ANSWERABLE: dict[str, Callable[[Record], bool | None]] = {
    "squad-dev23": lambda metadata: not metadata["is_impossible"],
    "clapnq-a": lambda metadata: bool(metadata["answerable"]),
    "covidqa-a": lambda metadata: not metadata["is_impossible"],
    "mtrag-un-a": lambda metadata: {"ANSWERABLE": True, "UNANSWERABLE": False}.get(metadata["answerability"]),
    "cranfield": lambda _: True,
}
HARDLY_FOREIGN = {("covidqa-a", "mtrag-un-a"), ("clapnq-a", "mtrag-un-a"), ("squad-dev23", "mtrag-un-a")}
"""Pairs of general questions and a collection of everything; not used, since some are answered there."""

NEARLY_TOLD_APART = {"squad-dev23 unanswerable"}
"""Questions made so that a paragraph seems to answer them: measured, but not fitted, for none is far off."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the folder of collections")
    parser.add_argument("--limit", type=int, default=150, help="questions of each set")
    parser.add_argument("--top-k", type=int, default=8)
    parser.add_argument("--models", type=Path, default=Path("~/.local/share/footnote/models"))
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()

    positive, negative = measure(
        arguments.folder, arguments.models.expanduser(), arguments.limit, arguments.top_k
    )
    result = {
        "sets": {name: len(rows) for name, rows in {**positive, **negative}.items()},
        "coefficients": fit(list(positive.values()), fitted(negative)).round(2).tolist(),
        "threshold": DEFAULT_MIN_CONFIDENCE,
        "left_out": {held: left_out(held, positive, negative) for held in positive},
    }
    for name, value in result.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        print(name, *(f"  {key:12} {row}" for key, row in rows), sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def measure(
    folder: Path, models: Path, limit: int, top_k: int
) -> tuple[dict[str, Doubles], dict[str, Doubles]]:
    """Closeness of each question, shape (n, 3), by set: the answerable ones and the others."""
    encoder = load_encoder(EncoderSpec(), models)
    questions = {name: list(read_lines(folder / name, "queries")) for name in ANSWERABLE}
    positive: dict[str, Doubles] = {}
    negative: dict[str, Doubles] = {}
    for home in ANSWERABLE:
        with tempfile.TemporaryDirectory() as directory:
            collection = IndexedCollection(folder / home, encoder, Path(directory) / "version")

            def closeness(records: Sequence[Record], collection: IndexedCollection = collection) -> Doubles:
                rows = []
                for record in sample(records, limit):
                    found = candidates(collection.passages(record["text"], top_k))
                    close = score(encoder, record["text"], found).closeness
                    rows.append((close.sentence, close.tokens, close.passage))
                return np.array(rows)

            for guest, judge in ANSWERABLE.items():
                answerable = [record for record in questions[guest] if judge(record["metadata"])]
                if guest == home:
                    positive[home] = closeness(answerable)
                    others = [record for record in questions[home] if judge(record["metadata"]) is False]
                    if others:
                        negative[f"{home} unanswerable"] = closeness(others)
                elif (guest, home) not in HARDLY_FOREIGN:
                    negative[f"{guest} > {home}"] = closeness(answerable)
            print(home, "measured", flush=True)
    return positive, negative


def fitted(negative: Mapping[str, Doubles]) -> list[Doubles]:
    return [rows for name, rows in negative.items() if name not in NEARLY_TOLD_APART]


def fit(positive: Sequence[Doubles], negative: Sequence[Doubles]) -> Doubles:
    """Logistic regression by Newton's method: the coefficients, then the intercept."""
    sets = [(rows, 1.0, len(positive)) for rows in positive] + [
        (rows, 0.0, len(negative)) for rows in negative
    ]
    x = np.concatenate([np.column_stack([rows, np.ones(len(rows))]) for rows, _, _ in sets])
    y = np.concatenate([np.full(len(rows), label) for rows, label, _ in sets])
    weights = np.concatenate([np.full(len(rows), 1 / len(rows) / n_sets) for rows, _, n_sets in sets])
    beta = np.zeros(x.shape[1])
    ridge = np.diag([1e-4] * (x.shape[1] - 1) + [0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ beta))
        gradient = x.T @ (weights * (p - y)) + ridge @ beta
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + ridge
        beta = beta - np.linalg.solve(hessian, gradient)
    return beta


def left_out(held: str, positive: Mapping[str, Doubles], negative: Mapping[str, Doubles]) -> dict[str, Any]:
    """How the fit on everything else does on one collection, at the shipped threshold."""
    rest = [rows for name, rows in positive.items() if name != held]
    beta = fit(rest, fitted({name: rows for name, rows in negative.items() if held not in name}))

    def confidence(rows: Doubles) -> Doubles:
        return np.asarray(1 / (1 + np.exp(-(rows @ beta[:-1] + beta[-1]))))

    answerable = confidence(positive[held])
    off_topic = np.concatenate([confidence(rows) for name, rows in negative.items() if f"{held} >" in name])
    measured: dict[str, Any] = {
        "answerable_refused": share(answerable < DEFAULT_MIN_CONFIDENCE),
        "off_topic_refused": share(off_topic < DEFAULT_MIN_CONFIDENCE),
        "auroc_off_topic": auroc(answerable, off_topic),
    }
    if f"{held} unanswerable" in negative:
        unanswerable = confidence(negative[f"{held} unanswerable"])
        measured["unanswerable_refused"] = share(unanswerable < DEFAULT_MIN_CONFIDENCE)
        measured["auroc_unanswerable"] = auroc(answerable, unanswerable)
    return measured


def share(values: NDArray[np.bool_]) -> float:
    return round(float(values.mean()), 3)


def auroc(positive: Doubles, negative: Doubles) -> float:
    """Share of the pairs that are in order, ties half."""
    differences = positive[:, None] - negative[None, :]
    return round(float((differences > 0).mean() + (differences == 0).mean() / 2), 3)


if __name__ == "__main__":
    main()
