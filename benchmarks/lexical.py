"""Times Footnote's postings beside other BM25 engines over the same texts: building, then single queries.

The chunks are made up of the default model's own words in about their natural frequencies, 90 words each,
queries of 4 to 12 words of a chunk. Footnote and tantivy write to disk; the others keep all in memory and are
left out above `--in-memory` chunks. bm25s is measured where it is installed.

    python -m benchmarks.lexical --chunks 100000 1000000 --json lexical.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tantivy
from rank_bm25 import BM25Okapi

from benchmarks.machine import describe
from benchmarks.made_up import WORDS_PER_CHUNK, Words
from indexing.analysis import NAME, build_analyzer
from indexing.bm25 import K1, B
from indexing.manifest import VersionSpec
from indexing.snapshot import Snapshot
from indexing.types import Ids
from indexing.version import VersionWriter, create_version

TOP_K = 100
BATCH = 5_000
DIM = 8  # an index version has vectors; these are too small to matter


class Engine(Protocol):
    """Takes texts in batches, then answers with the numbers of the best texts, best first."""

    def add(self, first: int, texts: list[str], /) -> None: ...

    def finish(self) -> None: ...

    def search(self, text: str, top_k: int, /) -> Ids: ...


class Footnote:
    """One commit to an index version."""

    def __init__(self, folder: Path) -> None:
        self._directory = folder / "footnote"
        spec = VersionSpec(
            version="benchmark",
            encoder_name="made up",
            encoder_fingerprint="0" * 16,
            dim=DIM,
            chunker_fingerprint="0" * 16,
        )
        create_version(self._directory, spec)
        self._writer = VersionWriter(self._directory).__enter__()
        self._committing = self._writer.commit(change=1)
        self._commit = self._committing.__enter__()

    def add(self, first: int, texts: list[str]) -> None:
        ids = np.arange(first, first + len(texts))
        vectors = np.ones((len(texts), DIM), dtype=np.float32)
        self._commit.add(chunk_ids=ids, document_ids=ids // 10, texts=texts, vectors=vectors)

    def finish(self) -> None:
        self._committing.__exit__(None, None, None)
        self._writer.__exit__(None, None, None)
        self._snapshot = Snapshot.open(self._directory)

    def search(self, text: str, top_k: int) -> Ids:
        return self._snapshot.lexical.search(text, top_k).chunk_ids


class Tantivy:
    """One writing thread, one commit; the analyzer is ours."""

    def __init__(self, folder: Path) -> None:
        schema = (
            tantivy.SchemaBuilder()
            .add_integer_field("number", fast=True)
            .add_text_field("text", tokenizer_name=NAME, index_option="freq")
            .build()
        )
        (folder / "tantivy").mkdir()
        self._index = tantivy.Index(schema, path=str(folder / "tantivy"))
        self._index.register_tokenizer(NAME, build_analyzer())
        self._writer = self._index.writer(heap_size=64_000_000, num_threads=1)
        self._analyzer = build_analyzer()

    def add(self, first: int, texts: list[str]) -> None:
        for number, text in enumerate(texts, start=first):
            self._writer.add_document(tantivy.Document(number=number, text=text))

    def finish(self) -> None:
        self._writer.commit()
        self._writer.wait_merging_threads()
        self._index.reload()
        self._searcher = self._index.searcher()

    def search(self, text: str, top_k: int) -> Ids:
        clauses = [
            (tantivy.Occur.Should, tantivy.Query.term_query(self._index.schema, "text", term, "freq"))
            for term in self._analyzer.analyze(text)
        ]
        hits = self._searcher.search(tantivy.Query.boolean_query(clauses), limit=top_k, count=False).hits
        return np.array(self._searcher.fast_field_values("number", [address for _, address in hits]))


class InMemory:
    """The tokens of all texts, for engines that take them at once."""

    def __init__(self, _folder: Path) -> None:
        self._analyzer = build_analyzer()
        self._tokens: list[list[str]] = []

    def add(self, _first: int, texts: list[str]) -> None:
        self._tokens += [self._analyzer.analyze(text) for text in texts]


class RankBm25(InMemory):
    def finish(self) -> None:
        self._bm25 = BM25Okapi(self._tokens, k1=K1, b=B)

    def search(self, text: str, top_k: int) -> Ids:
        scores = np.asarray(self._bm25.get_scores(self._analyzer.analyze(text)))
        best = np.argpartition(-scores, top_k)[:top_k]
        return np.asarray(best[np.argsort(-scores[best])])


class Bm25s(InMemory):
    def finish(self) -> None:
        bm25s: Any = import_module("bm25s")
        self._bm25 = bm25s.BM25(method="lucene", k1=K1, b=B)
        self._bm25.index(self._tokens, show_progress=False)

    def search(self, text: str, top_k: int) -> Ids:
        tokens = [self._analyzer.analyze(text)]
        found, _ = self._bm25.retrieve(tokens, k=top_k, show_progress=False)
        return np.asarray(found[0], dtype=np.int64)


@dataclass
class Stopwatch:
    """Wall and processor seconds, the latter of all threads."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    laps: list[float] = field(default_factory=list)

    @contextmanager
    def lap(self) -> Iterator[None]:
        begun, cpu_begun = time.perf_counter(), time.process_time()
        yield
        self.laps.append(time.perf_counter() - begun)
        self.seconds += self.laps[-1]
        self.cpu_seconds += time.process_time() - cpu_begun


def made_up_texts(n_chunks: int, words: Words) -> Iterator[tuple[int, list[str]]]:
    for first in range(0, n_chunks, BATCH):
        n_texts = min(BATCH, n_chunks - first)
        drawn = words.draw(n_texts * WORDS_PER_CHUNK)
        starts = range(0, len(drawn), WORDS_PER_CHUNK)
        yield first, [" ".join(drawn[start : start + WORDS_PER_CHUNK]) for start in starts]


def made_up_queries(n_queries: int) -> list[str]:
    words = Words(seed=1)
    return [words.query(words.text()) for _ in range(n_queries)]


def measure(engine: Engine, n_chunks: int, queries: list[str]) -> tuple[dict[str, float], list[Ids]]:
    building, searching = Stopwatch(), Stopwatch()
    for first, texts in made_up_texts(n_chunks, Words(seed=0)):
        with building.lap():
            engine.add(first, texts)
    with building.lap():
        engine.finish()
    for query in queries[:20]:
        engine.search(query, TOP_K)
    found = []
    for query in queries:
        with searching.lap():
            found.append(engine.search(query, TOP_K))
    numbers = {
        "build_seconds": round(building.seconds, 2),
        "build_cpu_seconds": round(building.cpu_seconds, 2),
        "query_p50_ms": round(float(np.percentile(searching.laps, 50)) * 1000, 3),
        "query_p95_ms": round(float(np.percentile(searching.laps, 95)) * 1000, 3),
        "query_cpu_ms": round(searching.cpu_seconds / len(queries) * 1000, 3),
    }
    return numbers, found


def compare(n_chunks: int, n_queries: int, n_in_memory: int) -> dict[str, Any]:
    queries = made_up_queries(n_queries)
    engines: dict[str, Callable[[Path], Engine]] = {"footnote": Footnote, "tantivy": Tantivy}
    if n_chunks <= n_in_memory:
        engines["rank_bm25"] = RankBm25
        if find_spec("bm25s"):
            engines["bm25s"] = Bm25s
    results: dict[str, Any] = {}
    ours: list[Ids] = []
    for name, make in engines.items():
        with tempfile.TemporaryDirectory() as folder:
            asked = queries[:20] if name == "rank_bm25" else queries
            numbers, found = measure(make(Path(folder)), n_chunks, asked)
        if name == "footnote":
            ours, own = found, numbers
        else:
            shared = [len(np.intersect1d(a[:10], b[:10])) / 10 for a, b in zip(ours, found, strict=False)]
            numbers["same_top_10"] = round(float(np.mean(shared)), 4)
            numbers["build_ratio"] = round(numbers["build_cpu_seconds"] / own["build_cpu_seconds"], 2)
            numbers["query_ratio"] = round(numbers["query_cpu_ms"] / own["query_cpu_ms"], 2)
        results[name] = numbers
        print(f"{n_chunks:>9,} {name:10} {numbers}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--chunks", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--in-memory", type=int, default=100_000, help="most chunks for engines in memory")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    results: dict[str, Any] = {**describe(), "top_k": TOP_K, "n_queries": arguments.queries}
    for n_chunks in arguments.chunks:
        results[str(n_chunks)] = compare(n_chunks, arguments.queries, arguments.in_memory)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
