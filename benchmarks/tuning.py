"""What `footnote tune` would decide on judged questions, and how often it adopts what is no gain.

    python -m benchmarks.tuning ../shared/data/cranfield ../shared/data/cisi --home /tmp/eval --json OUT

For each collection the weight alpha of the convex combination is tried in tenths, on all questions and on
random samples of them. Then every question's values are dealt to the settings anew, so that no setting is
better than another but by chance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from app.services import fitting_chunker
from app.settings import ChunkerSettings
from benchmarks.machine import describe
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from retrievers.evaluation.evaluation import evaluate
from retrievers.evaluation.significance import Doubles
from retrievers.evaluation.system import System
from retrievers.fused import FusionSpec
from retrievers.tuning import TENTHS, decide

PRESENT = 0.8
N_QUESTIONS = (30, 60, 120)
N_SAMPLES = 20


def main() -> None:
    arguments = _arguments()
    encoder = load_encoder(EncoderSpec(), arguments.home / "models")
    found: dict[str, Any] = {"machine": describe()}
    for folder in arguments.folders:
        found[folder.name] = _measured(_values(folder, encoder, arguments.home, arguments.limit))
        print(json.dumps({folder.name: found[folder.name]}, indent=2), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def _values(folder: Path, encoder: Encoder, home: Path, limit: int | None) -> Doubles:
    """nDCG@10 of each question under each alpha, the present one first."""
    columns = []
    for alpha in [PRESENT, *(value for value in TENTHS if value != PRESENT)]:
        fusion = FusionSpec(method="convex", weights={"dense": alpha, "bm25": 1 - alpha})
        result = evaluate(
            folder,
            System(mode="fused", fusion=fusion),
            encoder=encoder,
            chunker_spec=fitting_chunker(ChunkerSettings(), encoder.max_tokens),
            work_dir=home / "evaluation",
            limit=limit,
        )
        columns.append(list(result.per_query["ndcg@10"].values()))
    return np.array(columns).T


def _measured(values: Doubles) -> Mapping[str, Any]:
    settings = [{"alpha": PRESENT}, *({"alpha": value} for value in TENTHS if value != PRESENT)]
    random = np.random.default_rng(0)
    samples = {}
    for n_questions in (n for n in N_QUESTIONS if n < len(values)):
        decisions = [
            decide(values[random.choice(len(values), n_questions, replace=False)], settings)
            for _ in range(N_SAMPLES)
        ]
        samples[n_questions] = _shares(decisions)
    nothing = [decide(random.permuted(values, axis=1), settings, n_repeats=2) for _ in range(N_SAMPLES)]
    return {"all": asdict(decide(values, settings)), "samples": samples, "nothing_to_gain": _shares(nothing)}


def _shares(decisions: Sequence[Any]) -> Mapping[str, float]:
    verdicts = [decision.verdict for decision in decisions]
    return {name: verdicts.count(name) / len(verdicts) for name in sorted(set(verdicts))}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--home", type=Path, required=True, help="where indexes and models are kept")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
