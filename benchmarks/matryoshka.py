"""What dimensions and layers of the default encoder are worth: nDCG@10 and speed against how many are kept.

    python -m benchmarks.matryoshka quality --data DIR --work DIR     # minutes; goes on where it stopped
    python -m benchmarks.matryoshka speed
    python -m benchmarks.matryoshka funnel --work DIR                 # a funnel beside the dense search
    python -m benchmarks.matryoshka draw                              # the table and the plot from both

`DIR` of --data holds collections in the BEIR layout. Documents are encoded whole, up to the model's window,
and every query is compared with every document. Three ways to shorten a vector are compared: its first
numbers as they are, after a rotation fitted on made-up texts, and after one fitted on the collection's own
documents, as `footnote index build --set encoder.rotation=pca` does it. One pass gives the vectors of all
layers: the same numbers as `encoder.layers` gives, which is checked on some texts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from tokenizers import Tokenizer

from benchmarks.encoder import Collection, Vectors, mean_ndcg, read_collection
from benchmarks.machine import describe
from indexing.encoding.characters import without_surrogates
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.minilm_pack import DEFAULT_MAX_TOKENS, N_LAYERS, export_graph, installed_folder
from indexing.encoding.rotation import fitting_texts, principal_axes
from indexing.manifest import VersionSpec
from indexing.snapshot import Snapshot
from indexing.vectors import VectorStore, nearest_among, write_vectors
from indexing.version import VersionWriter, create_version
from retrievers.base import Retriever
from retrievers.dense import DenseRetriever
from retrievers.funnel import FunnelRetriever
from retrievers.types import Query

DIMS = (384, 256, 192, 128, 96, 64, 32)
LAYERS = tuple(range(1, N_LAYERS + 1))
SETS = ("cranfield", "medline", "cisi", "squad-dev23")
QUERIES_A_SET = 500
WAYS = {"plain": "prefix", "made-up": "pca of made-up texts", "own": "pca of the collection"}
RESULTS = Path(__file__).parent / "results"
TEXTS_A_SAVE = 200


class EveryLayer:
    """Sentence vectors after each layer, shape (n_texts, N_LAYERS, hidden), from one pass of one thread."""

    def __init__(self) -> None:
        folder = installed_folder()
        graph = onnx.load_from_string(export_graph(folder, "int8"))
        hidden = [f"hidden.{layer - 1}" for layer in LAYERS]
        kept = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "t", "h"]) for name in hidden[:-1]
        ]
        graph.graph.output.extend(kept)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
        self._names = [*hidden[:-1], "sentence"]
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(DEFAULT_MAX_TOKENS)

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._one(without_surrogates(text)) for text in texts])

    def _one(self, text: str) -> Vectors:
        ids = np.array([self._tokenizer.encode(text).ids], np.int32)
        outputs = self._session.run(self._names, {"input_ids": ids})
        means = np.stack([*(states[0].mean(axis=0) for states in outputs[:-1]), outputs[-1][0]])
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def quality(arguments: argparse.Namespace) -> dict[str, Any]:
    """nDCG@10 of each set by way, layers and dimensions."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    encoder = EveryLayer()
    _check(encoder)
    made_up = _kept(arguments.work / "fitting.npy", encoder, fitting_texts())
    sets = {}
    for name in arguments.sets:
        collection = _first_queries(read_collection(arguments.data / name, None))
        documents = _kept(arguments.work / f"{name}-documents.npy", encoder, collection.documents)
        queries = _kept(arguments.work / f"{name}-queries.npy", encoder, collection.queries)
        sets[name] = {
            f"{way}/{layers}/{dim}": value
            for layers in LAYERS
            for way, dim, value in _by_dimension(
                collection,
                documents[:, layers - 1],
                queries[:, layers - 1],
                made_up[:, layers - 1],
                DIMS if layers == N_LAYERS else (384, 128),
            )
        }
        print(name, {key: round(value, 4) for key, value in sets[name].items()}, flush=True)
    return {"sets": sets, "mean": {key: mean(one[key] for one in sets.values()) for key in sets[name]}}


def _by_dimension(
    collection: Collection, documents: Vectors, queries: Vectors, made_up: Vectors, dims: Sequence[int]
) -> Iterator[tuple[str, int, float]]:
    rotations = {
        "plain": np.eye(documents.shape[1], dtype=np.float32),
        "made-up": principal_axes(made_up),
        "own": principal_axes(documents),
    }
    for way, matrix in rotations.items():
        for dim in dims:
            scores = _prefix(queries @ matrix, dim) @ _prefix(documents @ matrix, dim).T
            yield way, dim, mean_ndcg(scores, collection)


def _prefix(vectors: Vectors, dim: int) -> Vectors:
    short = vectors[:, :dim]
    return np.asarray(short / np.linalg.norm(short, axis=1, keepdims=True))


def _first_queries(collection: Collection) -> Collection:
    return Collection(
        name=collection.name,
        document_ids=collection.document_ids,
        documents=collection.documents,
        query_ids=collection.query_ids[:QUERIES_A_SET],
        queries=collection.queries[:QUERIES_A_SET],
        qrels=collection.qrels,
    )


def _check(every: EveryLayer) -> None:
    texts = fitting_texts()[:3]
    found = every.encode(texts)
    with tempfile.TemporaryDirectory() as folder:
        for layers in LAYERS:
            encoder = load_encoder(EncoderSpec(layers=layers, n_threads=1), Path(folder))
            expected = encoder.encode_documents(texts).vectors
            np.testing.assert_allclose(found[:, layers - 1], expected, atol=1e-4)


def _kept(path: Path, encoder: EveryLayer, texts: Sequence[str]) -> Vectors:
    """The vectors of the texts, kept in half precision as they are made."""
    parts: list[Vectors] = [np.load(path)] if path.is_file() else []
    done = sum(map(len, parts))
    for start in range(done, len(texts), TEXTS_A_SAVE):
        parts.append(encoder.encode(texts[start : start + TEXTS_A_SAVE]).astype(np.float16))
        np.save(path, np.concatenate(parts))
        print(f"{path.stem}: {start + len(parts[-1])} of {len(texts)}", flush=True)
    vectors = np.concatenate(parts).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=2, keepdims=True))


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of one thread for the same texts by layers, and for the same search by dimensions.

    CPU time and not wall time, and the sides take turns: what else the machine does counts less.
    """
    texts = [" ".join(fitting_texts()[start : start + 8]) for start in range(0, 8 * arguments.texts, 8)]
    with tempfile.TemporaryDirectory() as folder:
        encoders = {n: load_encoder(EncoderSpec(layers=n, n_threads=1), Path(folder)) for n in LAYERS}
        n_tokens = sum(min(n + 2, DEFAULT_MAX_TOKENS) for n in encoders[1].count_tokens(texts))
        seconds: dict[int, list[float]] = {n: [] for n in LAYERS}
        for _ in range(arguments.rounds):
            for n, encoder in encoders.items():
                began = time.process_time()
                encoder.encode_documents(texts)
                seconds[n].append(time.process_time() - began)
    searches = {dim: _search_ms(dim, arguments.rows, arguments.rounds) for dim in DIMS}
    return {
        "tokens_per_cpu_second": {n: n_tokens / median(taken) for n, taken in seconds.items()},
        "search_cpu_ms": searches,
        "rows": arguments.rows,
    }


def _search_ms(dim: int, n_rows: int, rounds: int) -> float:
    """One exact search of so many fp16 vectors, as a segment without codes does it: the median."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        parts = (rng.standard_normal((10_000, dim)).astype(np.float16) for _ in range(n_rows // 10_000))
        coded = write_vectors(Path(folder), parts, n_rows, dim, lambda: None)
        store = VectorStore(Path(folder), n_rows, dim, coded=coded)
        taken = []
        for _ in range(10 * rounds):
            query = rng.standard_normal(dim).astype(np.float32)
            began = time.process_time()
            store.nearest(query, 100, None, n_rows)
            taken.append(time.process_time() - began)
    return 1000 * median(taken)


def funnel(arguments: argparse.Namespace) -> dict[str, Any]:
    """CPU milliseconds of a search and recall@10 against exact search, funnels beside the dense search.

    The vectors are those that the step `quality` kept, turned onto their principal axes; there are more of
    them than texts, so pairs are mixed and a little noise is added. The queries are the collections' own.
    """
    rng = np.random.default_rng(3)
    real = _of_last_layer(arguments.work, "documents")
    axes = principal_axes(real)
    asked = _of_last_layer(arguments.work, "queries") @ axes

    def vectors(n: int) -> Vectors:
        some, others = rng.integers(len(real), size=(2, n))
        share = rng.uniform(0.5, 1, (n, 1)).astype(np.float32)
        noise = 0.02 * rng.standard_normal((n, real.shape[1]), np.float32)
        mixed = (share * real[some] + (1 - share) * real[others] + noise) @ axes
        return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))

    found = {}
    for n_rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder, _made_up_index(Path(folder), vectors, n_rows) as opened:
            chosen = asked[rng.permutation(len(asked))[: arguments.queries]]
            queries = [Query(text="", vector=vector) for vector in chosen]
            exact = [_exact_ids(opened, query) for query in queries]
            retrievers: dict[str, Retriever] = {"dense": DenseRetriever(opened)}
            for dim in (32, 64, 128):
                retrievers[f"two steps from {dim}"] = FunnelRetriever(opened, first_dim=dim)
            retrievers["halving from 32"] = FunnelRetriever(opened, first_dim=32, steps="halving")
            found[n_rows] = {name: _searched(it, queries, exact) for name, it in retrievers.items()}
            print(n_rows, json.dumps(found[n_rows], indent=1), flush=True)
    return {"funnel": found}


def _of_last_layer(work: Path, kind: str) -> Vectors:
    """What `quality` kept of all collections, each of length 1."""
    parts = [np.load(path)[:, -1] for path in sorted(work.glob(f"*-{kind}.npy"))]
    vectors = np.concatenate(parts).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _made_up_index(folder: Path, vectors: Callable[[int], Vectors], n_rows: int) -> Snapshot:
    spec = VersionSpec(
        version="made-up",
        encoder_name="made-up",
        encoder_fingerprint="0",
        dim=DIMS[0],
        chunker_fingerprint="0",
    )
    create_version(folder, spec)
    with VersionWriter(folder) as writer, writer.commit(change=1) as commit:
        for start in range(0, n_rows, 10_000):
            ids = np.arange(start, start + 10_000, dtype=np.int64)
            commit.add(chunk_ids=ids, document_ids=ids, texts=[""] * len(ids), vectors=vectors(len(ids)))
    return Snapshot.open(folder)


def _exact_ids(snapshot: Snapshot, query: Query) -> set[int]:
    assert query.vector is not None
    scores: list[tuple[float, int]] = []
    for segment in snapshot.segments.segments:
        rows = nearest_among(query.vector, segment.vectors.halves, 10)
        values = segment.vectors.score(query.vector, rows)
        scores += zip(values.tolist(), segment.chunk_ids[rows].tolist(), strict=True)
    return {key for _, key in sorted(scores, reverse=True)[:10]}


def _searched(retriever: Retriever, queries: list[Query], exact: list[set[int]]) -> dict[str, float]:
    retriever.retrieve(queries[:3], 10)
    taken, recall = [], []
    for query, best in zip(queries, exact, strict=True):
        began = time.process_time()
        (hits,) = retriever.retrieve([query], 10)
        taken.append(time.process_time() - began)
        recall.append(len(best & {int(hit.chunk_id) for hit in hits}) / len(best))
    return {"cpu_ms": 1000 * median(taken), "recall@10": mean(recall)}


def draw(_arguments: argparse.Namespace) -> None:
    """Prints the tables of the manual and writes the plot."""
    found = json.loads((RESULTS / "matryoshka-quality.json").read_text())["mean"]
    print("| dimensions | " + " | ".join(WAYS.values()) + " |\n|---|---|---|---|")
    for dim in DIMS:
        print(f"| {dim} | " + " | ".join(f"{found[f'{way}/{N_LAYERS}/{dim}']:.3f}" for way in WAYS) + " |")
    print("\n| layers | 384 | 128, prefix | 128, pca of the collection |\n|---|---|---|---|")
    for n in LAYERS:
        keys = (f"plain/{n}/384", f"plain/{n}/128", f"own/{n}/128")
        print(f"| {n} | " + " | ".join(f"{found[key]:.3f}" for key in keys) + " |")
    (RESULTS / "matryoshka.svg").write_text(_plot(found))


def _plot(found: dict[str, float]) -> str:
    """Two charts beside each other: nDCG@10 by dimensions (logarithmic) and by layers."""
    colours = {"plain": "#888888", "made-up": "#d98a00", "own": "#1f6fb2"}
    font = 'font-family="sans-serif" font-size="12"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 300" {font}>']
    top = max(found.values()) * 1.05

    def place(left: int, x: float, value: float) -> str:
        return f"{left + 270 * x:.1f},{250 - 210 * value / top:.1f}"

    by_dim = {dim: np.log2(dim / 32) / np.log2(384 / 32) for dim in DIMS}
    by_layer = {n: (n - 1) / (N_LAYERS - 1) for n in LAYERS}
    for way, label in WAYS.items():
        points = " ".join(place(50, by_dim[dim], found[f"{way}/{N_LAYERS}/{dim}"]) for dim in DIMS)
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colours[way]}" stroke-width="2"/>')
        height = 180 + 18 * list(WAYS).index(way)
        lines.append(f'<text x="200" y="{height}" fill="{colours[way]}">{label}</text>')
    for dim, colour in ((384, "#222222"), (128, "#1f6fb2")):
        way = "plain" if dim == 384 else "own"
        points = " ".join(place(440, by_layer[n], found[f"{way}/{n}/{dim}"]) for n in LAYERS)
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        note = "384 dimensions" if dim == 384 else "128, pca of the collection"
        lines.append(f'<text x="460" y="{60 if dim == 384 else 78}" fill="{colour}">{note}</text>')
    for left, marks, title in (
        (50, by_dim, "dimensions, all layers"),
        (440, by_layer, "layers"),
    ):
        lines.append(f'<path d="M{left},40V250H{left + 270}" fill="none" stroke="#222222"/>')
        lines.append(f'<text x="{left}" y="24">nDCG@10 by {title}</text>')
        for step in range(4):
            y = 254 - 210 * 0.2 * step / top
            lines.append(f'<text x="{left - 6}" y="{y:.1f}" text-anchor="end">.{2 * step}</text>')
        for mark, share in marks.items():
            lines.append(f'<text x="{left + 270 * share:.1f}" y="268" text-anchor="middle">{mark}</text>')
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    measured = steps.add_parser("quality")
    measured.add_argument("--data", type=Path, required=True)
    measured.add_argument("--work", type=Path, required=True, help="vectors are kept here")
    measured.add_argument("--sets", nargs="+", default=SETS)
    timed = steps.add_parser("speed")
    timed.add_argument("--texts", type=int, default=40)
    timed.add_argument("--rounds", type=int, default=5)
    timed.add_argument("--rows", type=int, default=40_000)
    funnels = steps.add_parser("funnel")
    funnels.add_argument("--work", type=Path, required=True, help="where `quality` kept vectors")
    funnels.add_argument("--rows", type=int, nargs="+", default=[40_000, 200_000])
    funnels.add_argument("--queries", type=int, default=50)
    steps.add_parser("draw")
    arguments = parser.parse_args()
    if arguments.step == "draw":
        draw(arguments)
        return
    measure = {"quality": quality, "speed": speed, "funnel": funnel}[arguments.step]
    report = {"machine": describe(), **measure(arguments)}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(report, indent=2) + "\n"
    (RESULTS / f"matryoshka-{arguments.step}.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
