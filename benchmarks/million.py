"""The index engine alone at a million chunks: builds, opens, searches, commits and merges an index version.

No database, no encoder, no HTTP. The collection is made up, part by part, so that it is never in memory:

- texts of 100 words drawn from a Zipf distribution over 60,000 words;
- vectors of 384 numbers: 5,000 topics, ten chunks of one document about one topic, cosine of about .75
  between a chunk and its topic. Topics and chunks vary most in a few directions, as real vectors do: the
  variance of the n-th principal direction goes with n^-0.6;
- queries are a chunk's vector moved until the cosine to the chunk is about .7, and 3 to 12 words of it.

With `--vectors FILE.npy` the vectors are instead those of the file, rows of length 1, each used many times
and moved each time until the cosine to the original is about .85.

Beside it in the same run: FAISS Flat over all vectors, and rank-bm25 over the first 20,000 texts.

    python -m benchmarks.million --chunks 1000000 --json benchmarks/results/million.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faiss as _faiss
import numpy as np
from rank_bm25 import BM25Okapi

from benchmarks.machine import describe
from indexing.analysis import build_analyzer
from indexing.manifest import VersionSpec, load_manifest
from indexing.merging import merge_version
from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from indexing.verification import verify_version
from indexing.version import VersionWriter, create_version
from retrievers.base import Retriever
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever
from retrievers.hybrid import HybridRetriever
from retrievers.types import Query

faiss: Any = _faiss

DIM = 384
WORDS_PER_CHUNK = 100
CHUNKS_PER_DOCUMENT = 10
VOCABULARY = 60_000
TOPICS = 5_000
PART = 2_000
SHARES = (0.001, 0.01, 0.1, 0.5)
TOP_K = 10
PLAIN_CHUNKS = 20_000
COMMITS = 20
LATE = 10**9
"""Documents that commits add have numbers from here on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Columns as `Commit.add` takes them."""

    chunk_ids: Ids
    document_ids: Ids
    texts: list[str]
    vectors: Floats


class MadeUp:
    """Parts of `PART` chunks and queries about them, the same for the same seed."""

    def __init__(self, n_chunks: int, vectors: Path | None) -> None:
        self.n_chunks = n_chunks
        rng = np.random.default_rng(0)
        self._given = np.load(vectors).astype(np.float32) if vectors else None
        spectrum = np.arange(1, DIM + 1, dtype=np.float32) ** np.float32(-0.3)
        self._spectrum = spectrum / np.linalg.norm(spectrum)
        self._rotation = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0].astype(np.float32)
        self._topics = self._noise(rng, TOPICS)
        letters = rng.permutation(26**5)[:VOCABULARY]
        self._words = np.array(
            ["".join(chr(97 + number // 26**place % 26) for place in range(5)) for number in letters],
            dtype=object,
        )
        cumulated = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
        self._cumulated = cumulated / cumulated[-1]

    def parts(self) -> Iterator[Part]:
        for number in range(self.n_chunks // PART):
            yield self.part(number)

    def part(self, number: int, n: int = PART) -> Part:
        """The part with this number, or its first n chunks."""
        rng = np.random.default_rng((1, number))
        rows = np.arange(number * PART, number * PART + PART, dtype=np.int64)
        documents = rows // CHUNKS_PER_DOCUMENT
        drawn = np.searchsorted(self._cumulated, rng.random((PART, WORDS_PER_CHUNK)))
        if self._given is None:
            topics = np.random.default_rng((2, number)).integers(0, TOPICS, PART // CHUNKS_PER_DOCUMENT)
            vectors = self._topics[np.repeat(topics, CHUNKS_PER_DOCUMENT)] + 0.9 * self._noise(rng, PART)
        else:
            vectors = self._given[rng.integers(0, len(self._given), PART)] + 0.62 * self._noise(rng, PART)
        return Part(
            # An odd factor scatters the ids over all 62 bits and gives none twice.
            chunk_ids=(rows[:n] * 0x1F3D5B79A2C4E681) % 2**62,
            document_ids=documents[:n],
            texts=[" ".join(words) for words in self._words[drawn[:n]]],
            vectors=_unit(vectors[:n]),
        )

    def queries(self, n: int) -> list[Query]:
        rng = np.random.default_rng(3)
        queries = []
        for number in rng.integers(0, self.n_chunks // PART, n).tolist():
            row = int(rng.integers(PART))
            part = self.part(number, row + 1)
            vector = _unit(part.vectors[row : row + 1] + self._noise(rng, 1))[0]
            words = rng.choice(part.texts[row].split(), int(rng.integers(3, 13)), replace=False)
            queries.append(Query(text=" ".join(words), vector=vector))
        return queries

    def allowed(self, share: float) -> Ids:
        n_documents = self.n_chunks // CHUNKS_PER_DOCUMENT
        rng = np.random.default_rng((4, int(share * 1e6)))
        return np.sort(rng.choice(n_documents, max(int(share * n_documents), 1), replace=False))

    def _noise(self, rng: np.random.Generator, n: int) -> Floats:
        """Vectors of length 1 on average."""
        scaled = rng.standard_normal((n, DIM), dtype=np.float32) * self._spectrum
        return np.asarray(scaled @ self._rotation, dtype=np.float32)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def build(directory: Path, collection: MadeUp) -> dict[str, Any]:
    """One commit of everything. The time for making the collection up is not counted."""
    spec = VersionSpec(
        version="benchmark", encoder_name="", encoder_fingerprint="", dim=DIM, chunker_fingerprint=""
    )
    create_version(directory, spec)
    before = _peak_mb()
    seconds, begun = 0.0, time.perf_counter()
    with VersionWriter(directory) as writer:
        with writer.commit(change=1) as commit:
            for part in collection.parts():
                adding = time.perf_counter()
                commit.add(
                    chunk_ids=part.chunk_ids,
                    document_ids=part.document_ids,
                    texts=part.texts,
                    vectors=part.vectors,
                )
                seconds += time.perf_counter() - adding
            finishing = time.perf_counter()
        seconds += time.perf_counter() - finishing
    manifest = load_manifest(directory)
    return {
        "engine_seconds": round(seconds, 1),
        "wall_seconds_with_making_up": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "segments": [segment.n_rows for segment in manifest.segments],
        "bytes_per_chunk": round(manifest.size_bytes / collection.n_chunks),
        "extra_peak_mb": round(_peak_mb() - before),
    }


def read(directory: Path, collection: MadeUp, n_queries: int) -> dict[str, Any]:
    """Opening and searching, in a process that does nothing else."""
    queries = collection.queries(n_queries)
    before = _resident_mb()
    seconds = [_seconds(lambda: Snapshot.open(directory)) for _ in range(5)]
    snapshot = Snapshot.open(directory)
    results: dict[str, Any] = {"open_ms": _ms(seconds)}
    retrievers: dict[str, Retriever] = {
        "bm25": Bm25Retriever(snapshot),
        "dense": DenseRetriever(snapshot),
        "hybrid": HybridRetriever(snapshot),
    }
    for name, retriever in retrievers.items():
        results[name] = _timed(_search(retriever), queries)
    for share in SHARES:
        allowed = collection.allowed(share)
        filtered = [Query(text=q.text, vector=q.vector, allowed_documents=allowed) for q in queries]
        selecting = [_seconds(partial(snapshot.select, allowed)) for _ in range(20)]
        results[f"filter_{share}"] = {
            "select_ms": _ms(selecting),
            **{name: _timed(_search(retriever), filtered[:50]) for name, retriever in retrievers.items()},
        }
    results["resident_mb"] = round(_resident_mb() - before)
    results["anonymous_mb"] = round(_anonymous_mb())
    return results


def recall(directory: Path, collection: MadeUp, n_queries: int) -> dict[str, Any]:
    """Recall@10 and @100 of the dense search against an exact one, without a filter and with filters."""
    queries = collection.queries(n_queries)
    snapshot = Snapshot.open(directory)
    results = {}
    for share in (None, *SHARES):
        allowed = None if share is None else collection.allowed(share)
        exact = exact_nearest(snapshot, queries, allowed, 100)
        shares: dict[int, list[float]] = {10: [], 100: []}
        for query, expected in zip(queries, exact, strict=True):
            assert query.vector is not None
            found = snapshot.vectors.search(query.vector, 100, snapshot.select(allowed)).chunk_ids
            for depth, values in shares.items():
                values.append(float(np.isin(expected[:depth], found[:depth]).mean()))
        results[str(share or "none")] = {
            f"@{depth}": round(float(np.mean(v)), 4) for depth, v in shares.items()
        }
    return results


def exact_nearest(snapshot: Snapshot, queries: Sequence[Query], allowed: Ids | None, depth: int) -> list[Ids]:
    """The chunk ids of the nearest stored vectors, by a scan of all of them."""
    vectors = np.stack([query.vector for query in queries if query.vector is not None])
    ids, scores = [], []
    for segment, mask in zip(snapshot.segments.segments, snapshot.select(allowed).masks, strict=True):
        rows = np.arange(len(segment)) if mask is None else np.flatnonzero(mask)
        for start in range(0, len(rows), 50_000):
            part = rows[start : start + 50_000]
            products = vectors @ segment.vectors.halves[part].astype(np.float32).T
            best = np.argsort(-products, axis=1)[:, :depth]
            ids.append(segment.chunk_ids[part][best])
            scores.append(np.take_along_axis(products, best, axis=1))
    order = np.argsort(-np.concatenate(scores, axis=1), axis=1)[:, :depth]
    return list(np.take_along_axis(np.concatenate(ids, axis=1), order, axis=1))


def small_commits(directory: Path, collection: MadeUp, n_commits: int = COMMITS) -> dict[str, Any]:
    """Commits of one document of ten chunks, and opening the version again after each."""
    first = load_manifest(directory).commit
    snapshot = Snapshot.open(directory)
    snapshot.vectors.search(collection.queries(1)[0].vector, TOP_K)  # type: ignore[arg-type]
    seconds: dict[str, list[float]] = {"added": [], "replaced": [], "deleted": []}
    reopening = []
    change = load_manifest(directory).change
    for number in range(n_commits):
        part = collection.part(number % (collection.n_chunks // PART), 2 * CHUNKS_PER_DOCUMENT)
        old = part.document_ids[-1:]
        for kind in seconds:
            change += 1
            begun = time.perf_counter()
            with VersionWriter(directory) as writer, writer.commit(change=change) as commit:
                if kind != "added":
                    commit.replace_documents(old)
                if kind != "deleted":
                    commit.add(
                        chunk_ids=(part.chunk_ids[:10] + change + 2**62).astype(np.int64),
                        document_ids=np.full(10, LATE + first * 1000 + number if kind == "added" else old[0]),
                        texts=[f"{text} again" for text in part.texts[:10]],
                        vectors=part.vectors[:10],
                    )
            seconds[kind].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            snapshot = Snapshot.open(directory, previous=snapshot)
            reopening.append(time.perf_counter() - begun)
    return {**{kind: _ms(values) for kind, values in seconds.items()}, "reopening": _ms(reopening)}


def delete_third_of_a_segment(directory: Path) -> dict[str, Any]:
    """So many dead rows that a merge is due."""
    with Snapshot.open(directory) as snapshot:
        segment = max(snapshot.segments.segments, key=len)
        documents = np.unique(segment.document_ids_of(segment.live_rows[: int(0.035 * len(segment))]))
        change = snapshot.manifest.change + 1
    with VersionWriter(directory) as writer:
        begun = time.perf_counter()
        with writer.commit(change=change) as commit:
            commit.replace_documents(documents)
        seconds = time.perf_counter() - begun
    dead = [record.n_dead for record in load_manifest(directory).segments]
    return {"documents": len(documents), "seconds": round(seconds, 2), "dead_rows": sum(dead)}


def merge(directory: Path) -> dict[str, Any]:
    """A background merge, in a process of its own."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], _anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    anonymous, resident = _anonymous_mb(), _peak_mb()
    begun = time.perf_counter()
    merged = merge_version(directory)
    seconds = time.perf_counter() - begun
    done.set()
    watcher.join()
    return {
        "merged": merged,
        "seconds": round(seconds, 1),
        "segments": [segment.n_rows for segment in load_manifest(directory).segments],
        "extra_anonymous_mb": round(peak[0] - anonymous),
        "extra_peak_mb_with_mapped_files": round(_peak_mb() - resident),
    }


def check(directory: Path) -> dict[str, Any]:
    begun = time.perf_counter()
    problems = verify_version(directory)
    return {
        "seconds": round(time.perf_counter() - begun, 1),
        "problems": [f"{problem.path}: {problem.detail}" for problem in problems],
        "peak_mb": round(_peak_mb()),
    }


def plain(collection: MadeUp, n_queries: int) -> dict[str, Any]:
    """FAISS Flat over every vector; rank-bm25 over the first texts, whose time grows with their number."""
    queries = collection.queries(n_queries)
    flat = faiss.IndexFlatIP(DIM)
    texts: list[str] = []
    for part in collection.parts():
        flat.add(part.vectors)
        if len(texts) < PLAIN_CHUNKS:
            texts += part.texts
    analyzer = build_analyzer()
    begun = time.perf_counter()
    bm25 = BM25Okapi([analyzer.analyze(text) for text in texts])
    seconds = time.perf_counter() - begun
    faiss.omp_set_num_threads(1)
    return {
        "flat": _timed(lambda query: flat.search(query.vector[None], 100), queries),  # type: ignore[index]
        "rank_bm25_chunks": len(texts),
        "rank_bm25_build_seconds": round(seconds, 1),
        "rank_bm25": _timed(lambda query: bm25.get_scores(analyzer.analyze(query.text)), queries),
    }


def _timed(search: Callable[[Query], object], queries: Sequence[Query]) -> dict[str, float]:
    """`cpu_ms` is the mean time on a processor, which other load on the machine disturbs least."""
    for query in queries[:5]:
        search(query)
    begun = time.process_time()
    milliseconds = _ms([_seconds(partial(search, query)) for query in queries])
    return {**milliseconds, "cpu_ms": round((time.process_time() - begun) / len(queries) * 1000, 2)}


def _search(retriever: Retriever) -> Callable[[Query], object]:
    return lambda query: retriever.retrieve([query], TOP_K)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _ms(seconds: Sequence[float]) -> dict[str, float]:
    parts = {f"p{part}_ms": round(float(np.percentile(seconds, part)) * 1000, 2) for part in (50, 95)}
    return {**parts, "max_ms": round(max(seconds) * 1000, 2)}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def alone(work: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """What the function gives, run in a fresh process: its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(work, *arguments).result()


def measure(
    directory: Path, collection: MadeUp, n_queries: int, n_plain: int
) -> Iterator[tuple[str, object]]:
    yield "chunks", collection.n_chunks
    yield "machine", describe()
    yield "build", alone(build, directory, collection)
    yield "read", alone(read, directory, collection, n_queries)
    yield "recall", alone(recall, directory, collection, n_queries)
    yield "verify", alone(check, directory)
    yield "commits", alone(small_commits, directory, collection)
    yield "mass_delete", alone(delete_third_of_a_segment, directory)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        merging = processes.submit(merge, directory)
        meanwhile = []
        while not merging.done():
            meanwhile.append(small_commits(directory, collection, 3))
        yield "merge", merging.result()
        worst = {kind: max(commits[kind]["max_ms"] for commits in meanwhile) for kind in meanwhile[0]}
        yield "commits_while_merging_max_ms", worst
    yield "read_after", alone(read, directory, collection, n_queries)
    yield "verify_after", alone(check, directory)
    if n_plain:
        yield "plain", alone(plain, collection, n_plain)
    yield "load_average_at_end", os.getloadavg()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--plain", type=int, default=20, help="queries for the plain stack; 0 leaves it out")
    parser.add_argument("--vectors", type=Path, help="a .npy file of real vectors to enlarge")
    parser.add_argument("--folder", type=Path, help="where to put the index; a temporary folder by default")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    if arguments.chunks % PART:
        parser.error(f"--chunks must be a multiple of {PART}")
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        collection = MadeUp(arguments.chunks, arguments.vectors)
        for name, value in measure(Path(folder) / "version", collection, arguments.queries, arguments.plain):
            results[name] = value
            print(f"{name:30} {json.dumps(value)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
