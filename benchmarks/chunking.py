"""How chunk size, overlap and the merging of small sections change what is found.

    python benchmarks/chunking.py DATA/cranfield DATA/covidqa-a --max-tokens 128 256 --overlap 0 32

For every collection and setting one JSON line: nDCG@10 of documents (the best chunk counts) for BM25, dense
and hybrid retrieval, and, where the queries have answer spans, the share of questions whose answer lies whole
inside one of the best chunks, the chunks taken until a prompt of so many tokens is full: `answer@500` is fair
between small and large chunks, `answer in 5 chunks` is not. Speed is that of cutting alone.

Vectors are kept in the work folder by encoder and text, so that a setting costs only the texts it has alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np

from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.base import Encoder, Progress
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.types import DocumentId, Encoding, text_hash
from retrievers.evaluation.beir import BeirCollection, load_collection
from retrievers.evaluation.collection_index import collection_chunks, document_names, open_index
from retrievers.evaluation.evaluation import evaluate
from retrievers.evaluation.system import System
from retrievers.hybrid import HybridRetriever
from retrievers.types import Query

PROMPT_TOKENS = (250, 500, 1000, 2000)
N_CHUNKS = (1, 5, 10)


class KeptVectors:
    """An encoder that computes no document vector twice, over runs too."""

    def __init__(self, encoder: Encoder, directory: Path) -> None:
        self._encoder = encoder
        self._path = directory / f"vectors-{encoder.fingerprint}.npz"
        self._kept: dict[str, np.ndarray] = {}
        if self._path.exists():
            with np.load(self._path) as stored:
                self._kept = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)

    def encode_documents(
        self, texts: Sequence[str], *, with_tokens: bool = False, progress: Progress | None = None
    ) -> Encoding:
        if with_tokens:
            return self._encoder.encode_documents(texts, with_tokens=True, progress=progress)
        keys = [text_hash(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._kept}
        if new:
            vectors = self._encoder.encode_documents(list(new.values()), progress=progress).vectors.astype(
                np.float16
            )
            self._kept.update(zip(new, vectors, strict=True))
        return Encoding(vectors=np.stack([self._kept[key] for key in keys]).astype(np.float32))

    def save(self) -> None:
        np.savez(self._path, keys=np.array(list(self._kept)), vectors=np.stack(list(self._kept.values())))


def answers(collection: BeirCollection) -> dict[str, list[tuple[int, int]]]:
    """Query id → the spans of its answers in its one relevant document."""
    plain = collection.folder / "queries.jsonl"
    with plain.open("rb") if plain.exists() else gzip.open(f"{plain}.gz") as lines:
        records = [json.loads(line) for line in lines]
    spans = {
        str(record["_id"]): [
            (span[0], span[1])
            for answer in record.get("metadata", {}).get("answers") or []
            for span in answer.get("spans") or []
        ]
        for record in records
    }
    return {query_id: spans[query_id] for query_id in collection.qrels if spans.get(query_id)}


def answer_rates(
    collection: BeirCollection, encoder: Encoder, spec: ChunkerSpec, work_dir: Path
) -> dict[str, float]:
    wanted = answers(collection)
    if not wanted:
        return {}
    chunks = {chunk.id: chunk for chunk in collection_chunks(collection, Chunker(spec, encoder.count_tokens))}
    names = document_names(collection)
    found = dict.fromkeys(_rate_names(), 0)
    snapshot, _ = open_index(collection, encoder, spec, work_dir, lambda *_: None)
    with snapshot:
        retriever = HybridRetriever(snapshot)
        for query_id, spans in wanted.items():
            text = collection.queries[query_id]
            query = Query(text=text, vector=encoder.encode_queries([text]).vectors[0])
            n_tokens = 0
            for hit in retriever.retrieve([query], 100)[0]:
                chunk = chunks[hit.chunk_id]
                n_tokens += chunk.n_tokens
                if names[DocumentId(hit.document_id)] in collection.qrels[query_id] and any(
                    chunk.start <= start and end <= chunk.end for start, end in spans
                ):
                    for name in _reached(hit.rank, n_tokens):
                        found[name] += 1
                    break
    return {name: round(count / len(wanted), 4) for name, count in found.items()}


def _rate_names() -> list[str]:
    return [f"answer@{tokens}" for tokens in PROMPT_TOKENS] + [f"answer in {n} chunks" for n in N_CHUNKS]


def _reached(rank: int, n_tokens: int) -> Iterator[str]:
    yield from (f"answer@{tokens}" for tokens in PROMPT_TOKENS if n_tokens <= tokens)
    yield from (f"answer in {n} chunks" for n in N_CHUNKS if rank <= n)


def cutting(collection: BeirCollection, encoder: Encoder, spec: ChunkerSpec) -> dict[str, float]:
    """Sizes of the chunks, and how fast they are cut by one core once the words are known."""
    chunker = Chunker(spec, encoder.count_tokens)
    list(collection_chunks(collection, chunker))
    began = time.process_time()
    sizes = [chunk.n_tokens for chunk in collection_chunks(collection, chunker)]
    seconds = time.process_time() - began
    return {
        "n_chunks": len(sizes),
        "mean_tokens": round(float(np.mean(sizes)), 1),
        "p5_tokens": float(np.percentile(sizes, 5)),
        "max_tokens": max(sizes),
        "chunks_per_second": round(len(sizes) / seconds),
    }


def measure(folder: Path, encoder: Encoder, spec: ChunkerSpec, work_dir: Path, split: str | None) -> dict:
    collection = load_collection(folder, split)
    ndcg = {
        mode: round(
            evaluate(
                folder, System(mode=mode), encoder=encoder, work_dir=work_dir, chunker_spec=spec, split=split
            ).metrics["ndcg@10"],
            4,
        )
        for mode in ("bm25", "dense", "hybrid")
    }
    return {
        "dataset": collection.name,
        "chunker": asdict(spec),
        "ndcg@10": ndcg,
        **answer_rates(collection, encoder, spec, work_dir),
        "cut": cutting(collection, encoder, spec),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--max-tokens", nargs="+", type=int, default=[ChunkerSpec().max_tokens])
    parser.add_argument("--overlap", nargs="+", type=int, default=[ChunkerSpec().overlap_tokens])
    parser.add_argument("--min-tokens", nargs="+", type=int, default=[ChunkerSpec().min_tokens])
    parser.add_argument("--precision", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--split")
    parser.add_argument("--work-dir", type=Path, default=Path("benchmarks/.work"))
    given = parser.parse_args()
    given.work_dir.mkdir(parents=True, exist_ok=True)
    model = load_encoder(EncoderSpec(precision=given.precision), given.work_dir / "models")
    encoder = KeptVectors(model, given.work_dir)
    print(f"{platform.processor() or platform.machine()}, {model.name} {given.precision}", file=sys.stderr)
    for max_tokens, overlap, least in product(given.max_tokens, given.overlap, given.min_tokens):
        spec = ChunkerSpec(max_tokens=max_tokens, overlap_tokens=overlap, min_tokens=least)
        for folder in given.folders:
            print(json.dumps(measure(folder, encoder, spec, given.work_dir, given.split)), flush=True)
            encoder.save()


if __name__ == "__main__":
    main()
