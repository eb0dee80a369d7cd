"""How often the sentence that holds the answer is chosen within its passage, by several ways of scoring.

Every question is put to the paragraph that answers it, unless that has one sentence. `maxsim` is what the
service does, `pooled` the cosine of the question with the mean of a sentence's token vectors, as the
sub-sentence encoder pools (https://arxiv.org/abs/2311.04335), and `words` the idf of the shared terms.

    python -m benchmarks.best_sentences ../shared/data/squad-dev23 --limit 1500
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.indexed_collection import read_lines, sample
from benchmarks.machine import describe
from indexing.analysis import build_analyzer
from indexing.bm25 import idf
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.sentences import split_sentences
from indexing.types import TokenVectors, contextual_text
from retrievers.best_sentences import SentenceScore, score_sentences

Scores = list[SentenceScore]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="the collection: corpus.jsonl and queries.jsonl")
    parser.add_argument("--limit", type=int, help="take a sample of the questions")
    parser.add_argument("--models", type=Path, default=Path("~/.local/share/footnote/models"))
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()

    documents = {row["_id"]: row for row in read_lines(arguments.folder, "corpus")}
    encoder = load_encoder(EncoderSpec(), arguments.models.expanduser())
    analyze = build_analyzer().analyze
    rarity = _rarity(documents, analyze)
    passages: dict[str, tuple[TokenVectors, int]] = {}
    right: Counter[str] = Counter()
    seconds, n_questions, n_sentences = [], 0, 0
    for query in sample(list(read_lines(arguments.folder, "queries")), arguments.limit):
        spans = [span for answer in query["metadata"]["answers"] for span in answer["spans"]]
        key = query["metadata"]["doc_id"]
        if not spans or query["metadata"].get("is_impossible"):
            continue
        text = documents[key]["text"]
        if key not in passages:
            heading = (documents[key]["title"],) if documents[key]["title"] else ()
            whole = contextual_text(heading, text)
            began = time.process_time()
            encoded = encoder.encode_documents([whole], with_tokens=True)
            seconds.append(time.process_time() - began)
            assert encoded.tokens is not None
            passages[key] = encoded.tokens[0], len(whole) - len(text)
        tokens, skipped = passages[key]
        asked = encoder.encode_queries([query["text"]], with_tokens=True)
        assert asked.tokens is not None
        scored = score_sentences(text, tokens, asked.tokens[0], skipped=skipped)
        if len(scored) < 2 or len(split_sentences(text)) < 2:
            continue
        n_questions += 1
        n_sentences += len(scored)
        ways = {
            "maxsim": scored,
            "pooled": _pooled(scored, tokens, asked.vectors[0], skipped),
            "words": _by_words(scored, text, set(analyze(query["text"])), rarity, analyze),
        }
        for name, sentences in ways.items():
            best = max(sentences, key=lambda sentence: sentence.score)
            right[name] += any(best.start <= start < best.end for start, _ in spans)
    result = {
        **describe(),
        "questions": n_questions,
        "sentences_per_passage": round(n_sentences / n_questions, 2),
        "answer_in_best_sentence": {name: round(n / n_questions, 4) for name, n in right.items()},
        "encode_cpu_ms_per_passage_p50": round(float(np.median(seconds)) * 1000, 1),
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def _pooled(scored: Scores, tokens: TokenVectors, vector: Any, skipped: int) -> Scores:
    starts = tokens.offsets[:, 0] - skipped
    found = []
    for sentence in scored:
        mean = tokens.vectors[(starts >= sentence.start) & (starts < sentence.end)].mean(axis=0)
        score = float(mean @ vector) / float(np.linalg.norm(mean))
        found.append(SentenceScore(start=sentence.start, end=sentence.end, score=score))
    return found


def _by_words(
    scored: Scores,
    text: str,
    terms: set[str],
    rarity: Mapping[str, float],
    analyze: Callable[[str], list[str]],
) -> Scores:
    return [
        SentenceScore(
            start=sentence.start,
            end=sentence.end,
            score=sum(
                rarity.get(term, 0.0) for term in terms & set(analyze(text[sentence.start : sentence.end]))
            ),
        )
        for sentence in scored
    ]


def _rarity(documents: Mapping[str, Any], analyze: Callable[[str], list[str]]) -> dict[str, float]:
    counts = Counter(term for row in documents.values() for term in set(analyze(row["text"])))
    return {term: idf(len(documents), n_with) for term, n_with in counts.items()}


if __name__ == "__main__":
    main()
