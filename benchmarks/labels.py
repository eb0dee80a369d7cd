"""How well texts get their label of a list: each paragraph's article among the titles of all articles.

The title is not part of what is labelled. Precision and recall are those of the labels at or above a
threshold; `first` is the share of texts whose best label is right.

    python -m benchmarks.labels ../shared/data/squad-dev23 --limit 600
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.indexed_collection import read_lines, sample
from benchmarks.machine import describe
from indexing.analysis import build_analyzer
from indexing.bm25 import idf
from indexing.encoding.factory import EncoderSpec, load_encoder
from retrievers.labels import THRESHOLD, Label, LabelScore, LabelSpace, encode_inferred, infer_terms

THRESHOLDS = (0.3, 0.35, THRESHOLD, 0.45, 0.5)
LEXICAL_WEIGHTS = (0.0, 0.25, 0.5, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a collection whose documents' titles are their labels")
    parser.add_argument("--limit", type=int, help="take a sample of the documents")
    parser.add_argument("--models", type=Path, default=Path("~/.local/share/footnote/models"))
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()

    documents = list(read_lines(arguments.folder, "corpus"))
    encoder = load_encoder(EncoderSpec(), arguments.models.expanduser())
    analyze = build_analyzer().analyze
    counts = Counter(term for row in documents for term in set(analyze(row["text"])))

    def rarity(words: Sequence[str]) -> list[float]:
        return [
            max((idf(len(documents), counts[term]) for term in analyze(word)), default=0.0) for word in words
        ]

    labels = [Label(name=name) for name in sorted({row["title"] for row in documents})]
    space = LabelSpace(labels, encoder, analyze)
    found: list[tuple[str, list[LabelScore]]] = []
    for row in sample(documents, arguments.limit):
        inferred = encode_inferred(infer_terms(row["text"], rarity), row["text"], encoder, analyze)
        found.append((row["title"], space.retrieve(inferred, len(labels))))
    result = {
        **describe(),
        "texts": len(found),
        "labels": len(labels),
        "first_by_lexical_weight": {
            str(weight): round(
                sum(_first(scored, weight) == title for title, scored in found) / len(found), 4
            )
            for weight in LEXICAL_WEIGHTS
        },
        "by_threshold": {str(threshold): _measured(found, threshold) for threshold in THRESHOLDS},
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def _first(scored: Sequence[LabelScore], lexical_weight: float) -> str:
    return max(scored, key=lambda item: item.dense + lexical_weight * item.lexical).label.name


def _measured(found: Sequence[tuple[str, list[LabelScore]]], threshold: float) -> dict[str, float]:
    given = [
        (title, item.label.name) for title, scored in found for item in scored if item.score >= threshold
    ]
    n_right = sum(title == name for title, name in given)
    return {
        "precision": round(n_right / max(len(given), 1), 4),
        "recall": round(n_right / len(found), 4),
        "labels_per_text": round(len(given) / len(found), 3),
    }


if __name__ == "__main__":
    main()
