"""Late interaction: what pooled and coded token vectors lose, how quick MaxSim is, what the lists find.

    python -m benchmarks.late_interaction storage --data DIR [--sets medline cisi] [--queries 100]
    python -m benchmarks.late_interaction speed --data DIR --work DIR [--sets medline]
    python -m benchmarks.late_interaction first --data DIR --work DIR [--sets medline cisi] [--chunks 0]

`storage` scores every chunk for every query with the token vectors as the encoder gives them, and as an index
keeps them. `speed` times MaxSim of 200 chunks beside decoding all their vectors. `first` puts real chunks
into an index version, with `--chunks N` also such that are made of halves of two, until there are N, and
compares a search by its lists with one that scores every chunk. DIR of `--data` holds collections in the BEIR
layout, that of `--work` keeps indexes for the next run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.tokens import ndcg
from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.manifest import VersionSpec
from indexing.snapshot import Snapshot
from indexing.token_codec import TokenCodec, codec_for
from indexing.token_codes import TokenCodes
from indexing.token_pooling import pooled
from indexing.token_products import best_products
from indexing.types import Floats, TokenVectors
from indexing.version import VersionWriter, create_version
from retrievers.evaluation.beir import BeirCollection, load_collection
from retrievers.evaluation.collection_index import collection_chunks, document_names, open_index
from retrievers.fusion import convex_combination, min_max
from retrievers.late_interaction import token_weights

CANDIDATES = 200
CHUNKS_A_COMMIT = 5000
TEXTS_A_BATCH = 64
SEED = 7
SETS = ["medline", "cisi", "cranfield"]
FIRST_SETS = [
    *("cisi", "clapnq-a", "covidqa-a", "cranfield", "hotpotqa-100", "medline"),
    *("mtrag-un-a", "npl", "policyqa-dev", "squad-dev23"),
]


def storage(arguments: argparse.Namespace) -> dict[str, Any]:
    """Bytes a chunk, milliseconds of pooling and coding beside encoding, and nDCG@10 raw and as kept."""
    encoder = _encoder()
    found = {name: _storage_of(arguments, name, encoder) for name in arguments.sets}
    means = {
        measure: round(statistics.mean(of_set[measure] for of_set in found.values()), 4)
        for measure in next(iter(found.values()))
    }
    for ranking in ("maxsim", "weighted", "fused"):
        loss = 1 - means[f"{ranking}_kept"] / means[f"{ranking}_raw"]
        means[f"{ranking}_loss_percent"] = round(100 * loss, 2)
    return {**found, "mean": means}


def _storage_of(arguments: argparse.Namespace, name: str, encoder: Encoder) -> dict[str, float]:
    collection = load_collection(arguments.data / name)
    codec = codec_for(encoder.name, encoder.dim)
    chunks = list(collection_chunks(collection, Chunker(_chunker(encoder), encoder.count_tokens)))
    raw: list[Floats] = []
    codes, vectors = [], []
    seconds = {"encode": 0.0, "pool": 0.0, "code": 0.0}
    for first in range(0, len(chunks), TEXTS_A_BATCH):
        texts = [chunk.text for chunk in chunks[first : first + TEXTS_A_BATCH]]
        made = _timed(seconds, "encode", lambda: encoder.encode_documents(texts, with_tokens=True))  # noqa: B023
        vectors.append(made.vectors)
        for text, tokens in zip(texts, made.tokens or (), strict=True):
            raw.append(tokens.vectors)
            kept = _timed(seconds, "pool", lambda: pooled(text, tokens))  # noqa: B023
            codes.append(_timed(seconds, "code", lambda: codec.encode(kept)))  # noqa: B023
    gains = _gains(
        collection, encoder, raw, TokenCodes.of(codes, codec.width), np.concatenate(vectors), arguments
    )
    result = {
        "bytes_a_chunk": float(np.mean([codec.width * len(of_chunk) for of_chunk in codes])),
        "raw_tokens_a_chunk": float(np.mean([len(tokens) for tokens in raw])),
        **{f"{stage}_ms_a_chunk": 1000 * total / len(chunks) for stage, total in seconds.items()},
        **gains,
    }
    result = {measure: round(value, 4) for measure, value in result.items()}
    print(name, result, flush=True)
    return result


def _gains(
    collection: BeirCollection,
    encoder: Encoder,
    raw: Sequence[Floats],
    kept: TokenCodes,
    vectors: Floats,
    arguments: argparse.Namespace,
) -> dict[str, float]:
    """nDCG@10 of MaxSim, of MaxSim weighted by idf, and of that at one half beside the convex combination."""
    names = document_names(collection)
    sums: dict[str, list[float]] = {}
    chunker = _chunker(encoder)
    with tempfile.TemporaryDirectory() as folder:
        snapshot, _ = open_index(
            collection, encoder, chunker, arguments.work or Path(folder), lambda *_: None
        )
        order = list(collection_chunks(collection, Chunker(chunker, encoder.count_tokens)))
        ids = np.array([chunk.id for chunk in order], dtype=np.int64)
        documents = [names[chunk.document_id] for chunk in order]
        wanted = [query for query in collection.queries if query in collection.qrels][: arguments.queries]
        for query in wanted:
            text = collection.queries[query]
            encoded = encoder.encode_queries([text], with_tokens=True)
            (tokens,) = encoded.tokens or ()
            weights = token_weights(snapshot, text, tokens)
            convex = convex_combination(
                vectors @ encoded.vectors[0], snapshot.lexical.score(text, ids)
            ).astype(np.float32)
            for form, best in (("raw", _matches(tokens, raw)), ("kept", _coded(tokens, kept, encoder))):
                scores = {
                    "maxsim": best.sum(axis=1),
                    "weighted": best @ weights,
                    "fused": (convex + 0.5 * min_max(best @ weights, -1.0)).astype(np.float32),
                }
                for ranking, of_chunks in scores.items():
                    gain = _document_gain(documents, of_chunks, collection.qrels[query])
                    sums.setdefault(f"{ranking}_{form}", []).append(gain)
        snapshot.close()
    return {measure: statistics.mean(gains) for measure, gains in sums.items()}


def _document_gain(documents: Sequence[str], scores: Floats, grades: Any) -> float:
    """nDCG@10 of documents, each by its best chunk."""
    order = np.argsort(-scores, kind="stable")
    ranked = list(dict.fromkeys(documents[place] for place in order))
    return ndcg(ranked, -np.arange(len(ranked), dtype=np.float32), grades)


def _matches(tokens: TokenVectors, chunks: Sequence[Floats]) -> Floats:
    best = [
        (chunk @ tokens.vectors.T).max(axis=0) if len(chunk) else np.zeros(len(tokens.vectors))
        for chunk in chunks
    ]
    return np.asarray(best, dtype=np.float32)


def _coded(tokens: TokenVectors, kept: TokenCodes, encoder: Encoder) -> Floats:
    return best_products(tokens.vectors, kept, codec_for(encoder.name, encoder.dim))


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of MaxSim for 200 chunks of each collection, and of decoding them and multiplying."""
    encoder = _encoder()
    return {name: _speed_of(arguments, name, encoder) for name in arguments.sets}


def _speed_of(arguments: argparse.Namespace, name: str, encoder: Encoder) -> dict[str, Any]:
    collection, snapshot = _opened(arguments, name, encoder)
    random = np.random.default_rng(SEED)
    tables, decoded, sizes = [], [], []
    for text in list(collection.queries.values())[:30]:
        (tokens,) = encoder.encode_queries([text], with_tokens=True).tokens or ()
        ids = random.choice(snapshot.chunk_ids(), min(CANDIDATES, len(snapshot.chunk_ids())), replace=False)
        sizes.append(len(tokens.vectors))
        tables.append(_best_ms(lambda: snapshot.best_products(tokens.vectors, ids)))  # noqa: B023
        decoded.append(_best_ms(lambda: _matches(tokens, snapshot.token_vectors(ids))))  # noqa: B023
    snapshot.close()
    return {
        "query_tokens": round(statistics.mean(sizes), 1),
        "maxsim_ms_p50": round(statistics.median(tables), 2),
        "maxsim_ms_highest": round(max(tables), 2),
        "decoded_ms_p50": round(statistics.median(decoded), 2),
    }


def first(arguments: argparse.Namespace) -> dict[str, Any]:
    """Recall@10 against scoring every chunk, and both times, over one index version."""
    encoder = _encoder()
    codec = codec_for(encoder.name, encoder.dim)
    chunks: list[Any] = []
    queries: list[Floats] = []
    for name in arguments.sets:
        collection, snapshot = _opened(arguments, name, encoder)
        chunks += [codes.copy() for codes in snapshot.token_codes(snapshot.chunk_ids())]
        snapshot.close()
        texts = list(collection.queries.values())[: arguments.queries]
        queries += [tokens.vectors for tokens in encoder.encode_queries(texts, with_tokens=True).tokens or ()]
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        n_chunks = max(arguments.chunks, len(chunks))
        began = time.process_time()
        _write(Path(folder) / "version", chunks, n_chunks, codec)
        write_seconds = time.process_time() - began
        with Snapshot.open(Path(folder) / "version") as snapshot:
            result = _compared(snapshot, queries, codec)
            files = snapshot.manifest.files
    sizes = {
        name: sum(f.size for f in files if f.name.endswith(name)) for name in ("tokens.col", "lists.col")
    }
    per_chunk = {name: round(size / n_chunks) for name, size in sizes.items()}
    return {
        "chunks": n_chunks,
        "write_processor_seconds": round(write_seconds),
        "bytes_a_chunk": per_chunk,
        **result,
    }


def _write(directory: Path, real: Sequence[Any], n_chunks: int, codec: TokenCodec) -> None:
    """Real chunks, then chunks made of the first half of one and the second half of one that is near it."""
    random = np.random.default_rng(SEED)
    create_version(
        directory,
        VersionSpec(
            version="late",
            encoder_name="made-up",
            chunker_fingerprint="0" * 16,
            encoder_fingerprint="0" * 16,
            dim=codec.dim,
            settings={"token_codec": codec.name, "token_bytes": codec.width},
        ),
    )
    with VersionWriter(directory) as writer, writer.commit(change=1) as commit:
        for start in range(0, n_chunks, CHUNKS_A_COMMIT):
            ids = np.arange(start, min(start + CHUNKS_A_COMMIT, n_chunks), dtype=np.int64)
            codes = [real[i] if i < len(real) else _made_up(real, random) for i in ids.tolist()]
            vectors = random.standard_normal((len(ids), codec.dim), dtype=np.float32)
            commit.add(
                chunk_ids=ids,
                document_ids=ids,
                texts=["x"] * len(ids),
                vectors=vectors,
                tokens=TokenCodes.of(codes, codec.width),
            )


def _made_up(real: Sequence[Any], random: np.random.Generator) -> Any:
    """Two halves, with one byte in seven from another token: no two chunks are the same."""
    one = int(random.integers(len(real)))
    other = int(np.clip(one + random.integers(-40, 41), 0, len(real) - 1))
    joined = np.concatenate([real[one][: len(real[one]) // 2], real[other][len(real[other]) // 2 :]])
    changed = random.random(joined.shape) < 1 / 7
    return np.where(changed, joined[random.permutation(len(joined))], joined)


def _compared(snapshot: Snapshot, queries: Sequence[Floats], codec: TokenCodec) -> dict[str, Any]:
    recalls, listed, exhaustive = [], [], []
    for vectors in queries:
        weights = np.ones(len(vectors), dtype=np.float32)
        began = time.process_time()
        scores, ids = _every_score(snapshot, vectors, weights, codec)
        exhaustive.append(time.process_time() - began)
        began = time.process_time()
        found = snapshot.search_tokens(vectors, weights, 10)
        listed.append(time.process_time() - began)
        border = np.sort(scores)[-10]
        recalls.append(float(np.mean(scores[np.searchsorted(ids, found.chunk_ids)] >= border - 1e-4)))
    times = [1000 * statistics.median(times) for times in (listed, exhaustive)]
    return {
        "queries": len(queries),
        "query_tokens": round(statistics.mean(map(len, queries)), 1),
        "recall@10": round(statistics.mean(recalls), 4),
        "lists_processor_ms_p50": round(times[0], 1),
        "exhaustive_processor_ms_p50": round(times[1], 1),
        "times_faster": round(times[1] / times[0], 1),
    }


def _every_score(
    snapshot: Snapshot, vectors: Floats, weights: Floats, codec: TokenCodec
) -> tuple[Floats, Any]:
    """The score of every chunk, by chunk id, with the same arithmetic as the search by lists."""
    scores, ids = [], []
    for segment in snapshot.segments.segments:
        assert segment.tokens is not None
        for start in range(0, len(segment), 4096):
            rows = np.arange(start, min(start + 4096, len(segment)))
            scores.append(best_products(vectors, segment.tokens.take(rows), codec) @ weights)
            ids.append(segment.chunk_ids[rows])
    joined = np.concatenate(ids)
    order = np.argsort(joined)
    return np.concatenate(scores)[order], joined[order]


def _opened(arguments: argparse.Namespace, name: str, encoder: Encoder) -> tuple[BeirCollection, Snapshot]:
    collection = load_collection(arguments.data / name)
    snapshot, _ = open_index(collection, encoder, _chunker(encoder), arguments.work, lambda *_: None)
    return collection, snapshot


def _chunker(encoder: Encoder) -> ChunkerSpec:
    return replace(ChunkerSpec(), max_tokens=min(ChunkerSpec().max_tokens, encoder.max_tokens))


def _encoder() -> Encoder:
    cache = Path.home() / ".cache" / "footnote-benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    return load_encoder(EncoderSpec(n_threads=1), cache)


def _timed(seconds: dict[str, float], stage: str, call: Callable[[], Any]) -> Any:
    began = time.process_time()
    made = call()
    seconds[stage] += time.process_time() - began
    return made


def _best_ms(call: Callable[[], Any]) -> float:
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return 1000 * min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, work in (("storage", storage), ("speed", speed), ("first", first)):
        command = commands.add_parser(name, help=work.__doc__)
        command.set_defaults(work_of=work)
        command.add_argument("--data", type=Path, required=True)
        command.add_argument("--work", type=Path, required=name != "storage")
        command.add_argument("--sets", nargs="+", default=FIRST_SETS if name == "first" else SETS)
        command.add_argument("--queries", type=int, default=100 if name == "storage" else 10)
        command.add_argument("--json", type=Path)
        if name == "first":
            command.add_argument("--chunks", type=int, default=0)
    arguments = parser.parse_args()
    described = machine.describe()
    result = {**described, **arguments.work_of(arguments)}
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
