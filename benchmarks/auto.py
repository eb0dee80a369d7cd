"""What the default mode finds beside what it is made of, with settings it was not chosen on, and its cost.

    python -m benchmarks.auto DATA/cranfield DATA/medline DATA/cisi --work WORK --json auto.json

Each collection (BEIR layout) is indexed once in the work folder. For each: nDCG@10 of BM25, vectors and
MaxSim alone, of the convex combination, of the default as it ships, and of the default with the settings of
the grid that are best on the *other* collections (leave one out). All order the same candidates.
Collections with the same queries are left out together: `--same adi cisi`.

The time is that of a query, its encoding included, in each mode by turns; compare the ratio.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from indexing.chunking import ChunkerSpec
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.snapshot import Snapshot
from indexing.types import Floats
from retrievers.base import Retriever
from retrievers.ensemble import EnsembleRetriever, EnsembleSpec, ensemble_shares
from retrievers.evaluation.beir import BeirCollection, load_collection
from retrievers.evaluation.collection_index import document_names, open_index
from retrievers.evaluation.metrics import score_run
from retrievers.fusion import convex_combination
from retrievers.hybrid import HybridRetriever
from retrievers.neighbours import Smoothing
from retrievers.types import Query

SHIPPED = EnsembleSpec()
PLAIN = Smoothing(n_neighbours=0)
GRID = [
    EnsembleSpec(maxsim_weight=weight, smoothing=smoothing)
    for weight, smoothing in product(
        (0.5, 0.75, 1.0),
        [
            PLAIN,
            *(
                Smoothing(own_weight=own, temperature=temperature)
                for own, temperature in product((1.0, 2.0, 4.0), (0.05, 0.07, 0.1))
            ),
        ],
    )
]
N_TIMED = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The candidates of one query with all that their score is made of; the rows are parallel."""

    documents: Sequence[str]
    scores: Mapping[str, Floats]
    vectors: Floats


Score = Callable[[Candidates], Floats]
SINGLES: Mapping[str, Score] = {
    "bm25": lambda it: it.scores["bm25"],
    "dense": lambda it: it.scores["dense"],
    "maxsim": lambda it: it.scores["maxsim"],
}


def convex(candidates: Candidates) -> Floats:
    return convex_combination(candidates.scores["dense"], candidates.scores["bm25"]).astype(np.float32)


def ensemble(spec: EnsembleSpec) -> Score:
    def score(candidates: Candidates) -> Floats:
        shares = ensemble_shares(candidates.scores, candidates.vectors, spec)
        return np.asarray(sum(shares.values()), dtype=np.float32)

    return score


def query_of(encoder: Encoder, text: str) -> Query:
    made = encoder.encode_queries([text], with_tokens=True)
    return Query(text=text, vector=made.vectors[0], tokens=made.tokens[0] if made.tokens else None)


def candidates_of(snapshot: Snapshot, query: Query, names: Mapping[int, str]) -> Candidates:
    (hits,) = EnsembleRetriever(snapshot).retrieve([query], 2 * SHIPPED.candidate_k)
    hits = [hit for hit in hits if "neighbours" in hit.shares]
    return Candidates(
        documents=[names[hit.document_id] for hit in hits],
        scores={
            name: np.array([hit.scores[name] for hit in hits], dtype=np.float32) for name in hits[0].scores
        },
        vectors=snapshot.vectors.take(np.array([hit.chunk_id for hit in hits], dtype=np.int64)),
    )


def ndcg(collection: BeirCollection, found: Mapping[str, Candidates], score: Score) -> float:
    """Mean nDCG@10 of documents, each by its best chunk."""
    run = {}
    for query_id, candidates in found.items():
        best: dict[str, float] = {}
        for document, value in zip(candidates.documents, score(candidates).tolist(), strict=True):
            best[document] = max(value, best.get(document, value))
        run[query_id] = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:10]
    qrels = {query_id: collection.qrels[query_id] for query_id in found}
    values = score_run(qrels, run)["ndcg@10"]
    return sum(values.values()) / len(values)


def timed(encoder: Encoder, retrievers: Mapping[str, Retriever], texts: Sequence[str]) -> dict[str, float]:
    """Median milliseconds of a query, encoding included, the retrievers by turns."""
    seconds: dict[str, list[float]] = {name: [] for name in retrievers}
    for text in texts:
        for name, retriever in retrievers.items():
            began = time.perf_counter()
            retriever.retrieve([query_of(encoder, text)], 10)
            seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(values)) * 1000 for name, values in seconds.items()}


def say(stage: str, done: int, total: int) -> None:
    print(f"\r{stage} {done}/{total} ", end="", flush=True)


def measure(folder: Path, encoder: Encoder, work: Path, limit: int) -> dict[str, Any]:
    collection = load_collection(folder)
    # Questions about one text stand together: every so many-th is a fairer sample than the first.
    query_ids = list(collection.qrels)[:: -(-len(collection.qrels) // limit)]
    snapshot, _ = open_index(collection, encoder, ChunkerSpec(), work, say)
    names = document_names(collection)
    with snapshot:
        found = {
            query_id: candidates_of(snapshot, query_of(encoder, collection.queries[query_id]), names)
            for query_id in query_ids
        }
        retrievers: dict[str, Retriever] = {
            "hybrid": HybridRetriever(snapshot),
            "auto": EnsembleRetriever(snapshot),
        }
        texts = [collection.queries[query_id] for query_id in query_ids[:N_TIMED]]
        latency = timed(encoder, retrievers, texts)
    return {
        "queries": len(found),
        **{name: ndcg(collection, found, score) for name, score in SINGLES.items()},
        "convex": ndcg(collection, found, convex),
        "auto": ndcg(collection, found, ensemble(SHIPPED)),
        "grid": [ndcg(collection, found, ensemble(spec)) for spec in GRID],
        "ms": latency,
    }


def left_out(rows: Mapping[str, Mapping[str, Any]], same: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each collection its nDCG@10 with the settings that are best on the mean of the others."""
    chosen = {}
    for name, row in rows.items():
        apart = {name, *(same if name in same else ())}
        others = np.array([other["grid"] for key, other in rows.items() if key not in apart])
        best = int(others.mean(axis=0).argmax()) if len(others) else GRID.index(SHIPPED)
        chosen[name] = {"left_out": row["grid"][best], "chosen": asdict(GRID[best])}
    return chosen


def show(rows: Mapping[str, Mapping[str, Any]]) -> None:
    columns = ("bm25", "dense", "maxsim", "convex", "auto", "left_out")
    print("".join([f"{'':16}", *(f"{column:>9}" for column in columns), f"{'hybrid ms':>11}{'ratio':>7}"]))
    for name, row in rows.items():
        cells = "".join(f"{row[column]:9.4f}" for column in columns)
        print(f"{name:16}{cells}{row['ms']['hybrid']:11.1f}{row['ms']['auto'] / row['ms']['hybrid']:7.2f}")
    means = "".join(f"{np.mean([row[column] for row in rows.values()]):9.4f}" for column in columns)
    print(f"{'mean':16}{means}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="collections in BEIR layout")
    parser.add_argument("--work", type=Path, required=True, help="where indexes and the encoder are kept")
    parser.add_argument("--limit", type=int, default=500, help="queries of a collection, at most")
    parser.add_argument("--same", nargs="*", default=["adi", "cisi"], help="collections that share queries")
    parser.add_argument("--threads", type=int, help="threads of the encoder")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    encoder = load_encoder(EncoderSpec(n_threads=arguments.threads), arguments.work / "models")
    rows: dict[str, dict[str, Any]] = {}
    for folder in arguments.folders:
        rows[folder.name] = measure(folder, encoder, arguments.work / "evaluation", arguments.limit)
        print()
    for name, chosen in left_out(rows, arguments.same).items():
        rows[name] |= chosen
    show(rows)
    if arguments.json:
        result = describe() | {"shipped": asdict(SHIPPED), "collections": rows}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
