"""Times building, opening and searching an index version beside a plain FAISS Flat + rank-bm25 stack.

The collection is made up: vectors around random centres, words drawn from a Zipf distribution, questions made
of words of a chunk. Encoding is not part of it.

    python -m benchmarks.search --n 100000 --json search.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
from rank_bm25 import BM25Okapi

from indexing.analysis import build_analyzer
from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from indexing.version import VersionSpec, VersionWriter, create_version
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever
from retrievers.fusion import convex_combination
from retrievers.hybrid import HybridRetriever
from retrievers.types import Query

faiss: Any = _faiss

DIM = 384
WORDS_PER_CHUNK = 100
CHUNKS_PER_DOCUMENT = 10
VOCABULARY = 60_000
BATCH = 5_000
TOP_K = 10
CANDIDATE_K = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Chunks with ids and vectors, and questions of 3 to 20 words, each about one chunk."""

    chunk_ids: Ids
    document_ids: Ids
    texts: list[str]
    vectors: Floats
    queries: list[Query]


def make_collection(n_chunks: int, n_queries: int, seed: int = 0) -> Collection:
    rng = np.random.default_rng(seed)
    words = np.array(
        [
            "".join(chr(97 + (number // 26**place) % 26) for place in range(5))
            for number in rng.permutation(26**5)[:VOCABULARY]
        ]
    )
    cumulated = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    cumulated /= cumulated[-1]
    drawn = np.searchsorted(cumulated, rng.random((n_chunks, WORDS_PER_CHUNK)))
    centres = rng.standard_normal((max(n_chunks // 200, 1), DIM), dtype=np.float32)
    vectors = centres[rng.integers(0, len(centres), n_chunks)]
    vectors += 1.2 * rng.standard_normal((n_chunks, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = []
    for about in rng.choice(n_chunks, n_queries):
        n_words = rng.integers(3, 21)
        near = vectors[about] + 0.03 * rng.standard_normal(DIM, dtype=np.float32)
        text = " ".join(words[rng.choice(drawn[about], n_words, replace=False)])
        queries.append(Query(text=text, vector=near / np.linalg.norm(near)))
    return Collection(
        chunk_ids=rng.permutation(n_chunks).astype(np.int64) * 7919,
        document_ids=np.arange(n_chunks, dtype=np.int64) // CHUNKS_PER_DOCUMENT,
        texts=[" ".join(words[row]) for row in drawn],
        vectors=vectors,
        queries=queries,
    )


def build(directory: Path, collection: Collection) -> None:
    spec = VersionSpec(
        version="benchmark",
        encoder_name="made up",
        encoder_fingerprint="0" * 16,
        dim=DIM,
        chunker_fingerprint="0" * 16,
    )
    create_version(directory, spec)
    with VersionWriter(directory) as writer, writer.commit(change=1) as commit:
        for start in range(0, len(collection.texts), BATCH):
            part = slice(start, start + BATCH)
            commit.add(
                chunk_ids=collection.chunk_ids[part],
                document_ids=collection.document_ids[part],
                texts=collection.texts[part],
                vectors=collection.vectors[part],
            )


def small_commits(directory: Path, collection: Collection, n_commits: int = 10) -> list[float]:
    """Seconds of each commit that replaces one document by 10 other chunks."""
    seconds = []
    with VersionWriter(directory) as writer:
        for number in range(n_commits):
            rows = slice(number * CHUNKS_PER_DOCUMENT, (number + 1) * CHUNKS_PER_DOCUMENT)
            begun = time.perf_counter()
            with writer.commit(change=2 + number) as commit:
                commit.replace_documents(collection.document_ids[rows][:1])
                commit.add(
                    chunk_ids=collection.chunk_ids[rows] + 1,
                    document_ids=collection.document_ids[rows],
                    texts=[f"{text} again" for text in collection.texts[rows]],
                    vectors=collection.vectors[rows],
                )
            seconds.append(time.perf_counter() - begun)
    return seconds


class PlainStack:
    """What one would write first: FAISS Flat, rank-bm25 over every chunk, convex fusion of the best 100."""

    def __init__(self, collection: Collection) -> None:
        self._analyzer = build_analyzer()
        self._flat = faiss.IndexFlatIP(DIM)
        self._flat.add(collection.vectors)
        self._vectors = collection.vectors
        self._bm25 = BM25Okapi([self._analyzer.analyze(text) for text in collection.texts])

    def search(self, query: Query) -> list[int]:
        assert query.vector is not None
        lexical = self._bm25.get_scores(self._analyzer.analyze(query.text))
        by_term = np.argpartition(-lexical, CANDIDATE_K)[:CANDIDATE_K]
        by_vector = self._flat.search(query.vector[None], CANDIDATE_K)[1][0]
        rows = np.union1d(by_term, by_vector)
        fused = convex_combination(self._vectors[rows] @ query.vector, np.maximum(lexical[rows], 0))
        return [int(row) for row in rows[np.argsort(-fused)[:TOP_K]]]


def timed(search: Callable[[Query], object], queries: Sequence[Query]) -> dict[str, float]:
    """Milliseconds per query, one at a time, after a few for warming up.

    `cpu_ms` is the mean time on a processor, which other load on the machine disturbs least.
    """
    for query in queries[:5]:
        search(query)
    seconds = []
    cpu_begun = time.process_time()
    for query in queries:
        begun = time.perf_counter()
        search(query)
        seconds.append(time.perf_counter() - begun)
    cpu_seconds = (time.process_time() - cpu_begun) / len(queries)
    parts = {f"p{part}_ms": round(float(np.percentile(seconds, part)) * 1000, 2) for part in (50, 95)}
    return {**parts, "cpu_ms": round(cpu_seconds * 1000, 2)}


def dense_recall(snapshot: Snapshot, collection: Collection) -> dict[str, float]:
    """Share of the exact nearest neighbours that are found."""
    exact = collection.vectors.astype(np.float16).astype(np.float32)
    shares: dict[int, list[float]] = {10: [], 100: []}
    for query in collection.queries:
        assert query.vector is not None
        order = np.argsort(-(exact @ query.vector))[:CANDIDATE_K]
        found = snapshot.vectors.search(query.vector, CANDIDATE_K).chunk_ids
        for depth, values in shares.items():
            values.append(np.isin(collection.chunk_ids[order[:depth]], found[:depth]).mean())
    return {f"recall@{depth}": round(float(np.mean(values)), 4) for depth, values in shares.items()}


def measure(directory: Path, n_chunks: int, n_queries: int, n_plain: int) -> Iterator[tuple[str, Any]]:
    collection = make_collection(n_chunks, n_queries)
    yield "n_chunks", n_chunks
    yield "machine", f"{platform.machine()}, {os.cpu_count()} cores"

    begun, cpu_begun = time.perf_counter(), time.process_time()
    build(directory, collection)
    yield "build_seconds", round(time.perf_counter() - begun, 2)
    yield "build_cpu_seconds", round(time.process_time() - cpu_begun, 2)
    yield "disk_bytes_per_chunk", round(sum(p.stat().st_size for p in directory.rglob("*.*")) / n_chunks)

    before = _resident_bytes()
    begun = time.perf_counter()
    snapshot = Snapshot.open(directory)
    yield "open_seconds", round(time.perf_counter() - begun, 3)

    queries = collection.queries
    searches: dict[str, Any] = {
        "bm25": Bm25Retriever(snapshot),
        "dense": DenseRetriever(snapshot),
        "hybrid": HybridRetriever(snapshot),
        "rrf": HybridRetriever(snapshot, method="rrf"),
    }
    for name, retriever in searches.items():
        yield name, timed(lambda query, retriever=retriever: retriever.retrieve([query], TOP_K), queries)
    hybrid = timed(lambda query: searches["hybrid"].retrieve([query], TOP_K), queries)
    rng = np.random.default_rng(1)
    n_documents = n_chunks // CHUNKS_PER_DOCUMENT
    for share in (0.001, 0.02, 0.3):
        allowed = np.sort(rng.choice(n_documents, max(int(share * n_documents), 1), replace=False))
        filtered = [Query(text=q.text, vector=q.vector, allowed_documents=allowed) for q in queries]
        yield (
            f"hybrid_filter_{share}",
            timed(lambda query: searches["hybrid"].retrieve([query], TOP_K), filtered),
        )
    yield "snapshot_resident_mb", round((_resident_bytes() - before) / 1e6)
    yield "dense_recall", dense_recall(snapshot, collection)
    seconds = small_commits(directory, collection)
    yield "small_commit_seconds", {"p50": round(float(np.median(seconds)), 3), "max": round(max(seconds), 3)}

    if n_plain:
        begun = time.perf_counter()
        plain = PlainStack(collection)
        yield "plain_build_seconds", round(time.perf_counter() - begun, 2)
        baseline = timed(plain.search, queries[:n_plain])
        yield "plain", baseline
        yield "times_faster_than_plain", round(baseline["p50_ms"] / hybrid["p50_ms"], 1)
    yield "peak_resident_mb", round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=100_000, help="number of chunks")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--plain", type=int, default=20, help="queries for the plain stack; 0 leaves it out")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, value in measure(Path(folder) / "version", arguments.n, arguments.queries, arguments.plain):
            results[name] = value
            print(f"{name:26} {value}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
