"""Extractive answers on SQuAD, end to end: how often the quoted text contains a gold answer.

The paragraphs are one collection; every question is asked to all of it. Question and answers are compared as
SQuAD does it: lower case, words only. A refused question counts as not answered.

    python -m benchmarks.answers_squad ../shared/data/squad-dev23 --json answers_squad.json
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.generation.candidates import Candidate, candidates
from app.generation.extractive import (
    DEFAULT_MIN_CONFIDENCE,
    ExtractiveSettings,
    choose,
    with_antecedents,
)
from app.generation.scoring import score
from benchmarks.indexed_collection import IndexedCollection, read_lines, sample
from indexing.encoding.factory import EncoderSpec, load_encoder

DEFAULT = ExtractiveSettings()
SETTINGS = {f"{n} fixed": replace(DEFAULT, max_sentences=n, score_margin=math.inf) for n in (1, 2, 3)} | {
    "default": DEFAULT,
    "default, at most 2": replace(DEFAULT, max_sentences=2),
}
Row = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the collection: corpus.jsonl and queries.jsonl")
    parser.add_argument("--limit", type=int, help="take a sample of the questions")
    parser.add_argument("--top-k", type=int, default=8, help="passages an answer may rest on")
    parser.add_argument("--mode", choices=("auto", "hybrid"), default="auto")
    parser.add_argument("--models", type=Path, default=Path("~/.local/share/footnote/models"))
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()

    encoder = load_encoder(EncoderSpec(), arguments.models.expanduser())
    rows: dict[str, list[Row]] = {name: [] for name in SETTINGS}
    refused: dict[bool, list[bool]] = {True: [], False: []}
    found, seconds = [], []
    with tempfile.TemporaryDirectory() as directory:
        collection = IndexedCollection(arguments.folder, encoder, Path(directory) / "version", arguments.mode)
        for record in sample(list(read_lines(arguments.folder, "queries")), arguments.limit):
            golds = [answer["text"] for answer in record["metadata"]["answers"]]
            passages = collection.passages(record["text"], arguments.top_k)
            begun = time.perf_counter()
            quotable = candidates(passages)
            scored = score(encoder, record["text"], quotable)
            seconds.append(time.perf_counter() - begun)
            answered = scored.closeness.confidence >= DEFAULT_MIN_CONFIDENCE
            refused[bool(golds)].append(not answered)
            if not golds:
                continue
            found.append(contains_gold(" \n ".join(passage.chunk.text for passage in passages), golds))
            for name, settings in SETTINGS.items():
                chosen = with_antecedents(choose(scored, settings), quotable, settings.max_sentences)
                rows[name].append(measured(chosen, golds, answered=answered))

    result = summary(rows, refused, found, seconds) | {"top_k": arguments.top_k, "encoder": encoder.name}
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def measured(chosen: Sequence[Candidate], golds: Sequence[str], *, answered: bool) -> Row:
    hit = any(contains_gold(sentence.text, golds) for sentence in chosen)
    return {
        "contains_gold": float(hit and answered),
        "contains_gold_if_never_refused": float(hit),
        "sentences": len(chosen),
        "characters": sum(len(sentence.text) for sentence in chosen),
    }


def contains_gold(text: str, golds: Sequence[str]) -> bool:
    """Whether the words of an answer stand in the text, in a row.

    >>> contains_gold("It was the Walt Disney Company.", ["Walt Disney"]), contains_gold("1999", ["99"])
    (True, False)
    """
    words = f" {plain(text)} "
    return any(f" {plain(gold)} " in words for gold in golds)


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def summary(
    rows: Mapping[str, Sequence[Row]],
    refused: Mapping[bool, Sequence[bool]],
    found: Sequence[bool],
    seconds: Sequence[float],
) -> dict[str, Any]:
    return {
        "answerable": len(refused[True]),
        "unanswerable": len(refused[False]),
        "gold_in_passages": round(float(np.mean(found)), 4),
        "answerable_refused": round(float(np.mean(refused[True])), 4),
        "unanswerable_refused": round(float(np.mean(refused[False] or [False])), 4),
        "generate_ms": {
            f"p{part}": round(float(np.percentile(seconds, part)) * 1000, 1) for part in (50, 95, 99)
        },
        "quoted": {
            name: {key: round(float(np.mean([row[key] for row in made])), 4) for key in made[0]}
            for name, made in rows.items()
        },
    }


def show(result: Mapping[str, Any]) -> None:
    for name, value in result.items():
        if name != "quoted":
            print(f"{name:24} {value}")
    print(f"\n{'quoted':20} {'gold':>7} {'unrefused':>10} {'sentences':>10} {'characters':>11}")
    for name, row in result["quoted"].items():
        hit, unrefused, sentences, characters = row.values()
        print(f"{name:20} {hit:7.4f} {unrefused:10.4f} {sentences:10.2f} {characters:11.0f}")


if __name__ == "__main__":
    main()
