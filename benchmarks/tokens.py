"""Codecs of token vectors: training the one that is shipped, what it loses in retrieval, how fast it is.

    python -m benchmarks.tokens train --passages DIR [--limit 1500] [--out indexing/minilm-pq.npz]
    python -m benchmarks.tokens quality --data DIR [--sets cranfield medline cisi] [--queries N] [--json FILE]
    python -m benchmarks.tokens speed [--json FILE]
    python -m benchmarks.tokens mapped [--chunks 100000] [--json FILE]

`train` reads the passages of a collection in the BEIR layout, encodes them and fits the parameters; the seeds
are fixed. `quality` ranks every document of a collection for every query by the
sum over the query's tokens of the largest inner product with one of the document's (MaxSim), with the vectors
as they are and as each codec gives them back. `mapped` commits made-up codes to an index version and reads
all of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.snapshot import Snapshot
from indexing.token_codec import ROTATED, TRAINED, ProductCodec, TokenCodec, codec_named
from indexing.token_codes import TokenCodes
from indexing.types import Floats
from indexing.vectors import faiss
from indexing.version import VersionSpec, VersionWriter, create_version
from retrievers.evaluation.beir import BeirCollection, load_collection

TEXTS_A_BATCH = 64
TRAINING_TOKENS = 60_000
DOCUMENTS_A_BLOCK = 64
TOKENS_A_CHUNK = 170
SEED = 7


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fits rotation and centroids; writes them in float16."""
    folder: Path = arguments.passages
    collection = BeirCollection(name=folder.name, split="", folder=folder, queries={}, qrels={})
    texts = [text for _, text in zip(range(arguments.limit), _texts(collection), strict=False)]
    tokens = np.concatenate(list(_token_vectors(_encoder(), texts)))
    sample = np.random.default_rng(SEED).permutation(len(tokens))[:TRAINING_TOKENS]
    tokens = tokens[np.sort(sample)]
    rotation = balanced_rotation(tokens, arguments.parts)
    centroids = fit_centroids(tokens @ rotation, arguments.parts)
    np.savez(arguments.out, rotation=rotation.astype("<f2"), centroids=centroids.astype("<f2"))
    codec = ProductCodec.load(TRAINED, arguments.out)
    likeness = (codec.decode(codec.encode(tokens[:5000])) * tokens[:5000]).sum(axis=1)
    return {
        "tokens": len(tokens),
        "file_bytes": arguments.out.stat().st_size,
        "cosine": float(likeness.mean()),
    }


def balanced_rotation(tokens: Floats, n_parts: int) -> Floats:
    """The principal axes, dealt out to parts so that the products of their variances are alike.

    Ge et al. 2013, section 4 ("eigenvalue allocation"): the best rotation for a normal distribution.
    """
    moments = (tokens.T @ tokens).astype(np.float64) / len(tokens)
    variances, axes = np.linalg.eigh(moments)
    size = len(variances) // n_parts
    parts: list[list[int]] = [[] for _ in range(n_parts)]
    logs = np.zeros(n_parts)
    for axis in np.argsort(-variances):
        free = [part for part in range(n_parts) if len(parts[part]) < size]
        chosen = min(free, key=lambda part: logs[part])
        parts[chosen].append(int(axis))
        logs[chosen] += np.log(max(variances[axis], 1e-9))
    rotation = axes[:, [axis for part in parts for axis in part]]
    # The sign of an axis is of no account, and one machine may give another than the next.
    return np.asarray(
        rotation * np.sign(rotation[np.abs(rotation).argmax(axis=0), range(len(rotation))]), "<f4"
    )


def fit_centroids(rotated: Floats, n_parts: int) -> Floats:
    """256 centroids of each part by k-means, shape (n_parts, 256, dim / n_parts)."""
    faiss.omp_set_num_threads(1)  # one order of additions
    size = rotated.shape[1] // n_parts
    found = []
    for part in range(n_parts):
        means = faiss.Kmeans(size, 256, niter=12, seed=SEED, max_points_per_centroid=256)
        means.train(np.ascontiguousarray(rotated[:, part * size : (part + 1) * size]))
        found.append(means.centroids)
    return np.stack(found)


def quality(arguments: argparse.Namespace) -> dict[str, Any]:
    """nDCG@10 of exhaustive MaxSim: raw, and by codec."""
    encoder = _encoder()
    codecs: dict[str, TokenCodec | None] = {"raw": None}
    codecs |= {name: codec_named(name, encoder.dim) for name in (TRAINED, ROTATED)}
    return {
        name: _quality_of(arguments.data / name, encoder, codecs, arguments.queries)
        for name in arguments.sets
    }


def _quality_of(
    folder: Path, encoder: Encoder, codecs: dict[str, TokenCodec | None], n_queries: int
) -> dict[str, Any]:
    collection = load_collection(folder)
    wanted = [query for query in collection.queries if query in collection.qrels][:n_queries]
    queries = list(_token_vectors(encoder, [collection.queries[query] for query in wanted], queries=True))
    documents = list(_token_vectors(encoder, list(_texts(collection))))
    ids = [document.id for document in collection.documents()]
    tokens_a_chunk = float(np.mean([len(document) for document in documents]))
    result: dict[str, Any] = {"queries": len(wanted), "tokens_a_chunk": round(tokens_a_chunk, 1)}
    for name, codec in codecs.items():
        scores = max_sim(queries, documents, codec)
        gains = [ndcg(ids, row, collection.qrels[query]) for query, row in zip(wanted, scores, strict=True)]
        width = 2 * encoder.dim if codec is None else codec.width
        result[name] = {
            "ndcg@10": round(float(np.mean(gains)), 4),
            "bytes_a_chunk": round(width * tokens_a_chunk),
        }
        print(folder.name, name, result[name], flush=True)
    return result


def max_sim(queries: Sequence[Floats], documents: Sequence[Floats], codec: TokenCodec | None) -> Floats:
    """Shape (n_queries, n_documents)."""
    joined = np.concatenate(queries)
    starts = np.cumsum([0, *(len(query) for query in queries)])[:-1]
    columns = []
    for first in range(0, len(documents), DOCUMENTS_A_BLOCK):
        block = documents[first : first + DOCUMENTS_A_BLOCK]
        tokens = np.concatenate(block)
        if codec is not None:
            tokens = codec.decode(codec.encode(tokens))
        begins = np.cumsum([0, *(len(document) for document in block)])[:-1]
        best = np.maximum.reduceat(joined @ tokens.T, begins, axis=1)
        columns.append(np.add.reduceat(best, starts, axis=0))
    return np.concatenate(columns, axis=1)


def ndcg(ids: Sequence[str], scores: Floats, grades: Any) -> float:
    """nDCG@10 with the grades as gains; ties by place."""
    ranked = [max(grades.get(ids[place], 0), 0) for place in np.argsort(-scores, kind="stable")[:10]]
    ideal = sorted((max(grade, 0) for grade in grades.values()), reverse=True)[:10]
    discounts = 1 / np.log2(np.arange(10) + 2)
    best = float(np.dot(ideal, discounts[: len(ideal)]))
    return float(np.dot(ranked, discounts[: len(ranked)])) / best if best else 0.0


def speed(_: argparse.Namespace) -> dict[str, Any]:
    """Tokens coded and decoded in a second of processor time, one thread."""
    random = np.random.default_rng(SEED)
    vectors = random.standard_normal((20_000, 384), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {name: _speed_of(codec_named(name, 384), vectors) for name in (TRAINED, ROTATED)}


def _speed_of(codec: TokenCodec, vectors: Floats) -> dict[str, int]:
    codes = codec.encode(vectors)
    return {
        "encoded_a_second": round(len(vectors) / _seconds(lambda: codec.encode(vectors))),
        "decoded_a_second": round(len(vectors) / _seconds(lambda: codec.decode(codes))),
    }


def _seconds(call: Any) -> float:
    taken = []
    for _ in range(3):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return min(taken)


def mapped(arguments: argparse.Namespace) -> dict[str, Any]:
    """Memory while made-up codes are committed, and while all of a version's are read."""
    codec = codec_named(TRAINED, 384)
    spec = VersionSpec(
        version="tokens",
        encoder_name="made-up",
        encoder_fingerprint="0" * 16,
        dim=8,
        chunker_fingerprint="0" * 16,
        settings={"token_codec": codec.name, "token_bytes": codec.width},
    )
    random = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "version"
        create_version(directory, spec)
        with VersionWriter(directory) as writer, writer.commit(change=1) as commit:
            for first in range(0, arguments.chunks, 2000):
                ids = np.arange(first, min(first + 2000, arguments.chunks), dtype=np.int64)
                sizes = random.integers(TOKENS_A_CHUNK - 60, TOKENS_A_CHUNK + 60, len(ids))
                starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
                codes = random.integers(0, 256, (int(starts[-1]), codec.width), dtype=np.uint8)
                vectors = random.standard_normal((len(ids), 8), dtype=np.float32)
                tokens = TokenCodes(codes=codes, starts=starts)
                commit.add(
                    chunk_ids=ids, document_ids=ids, texts=["x"] * len(ids), vectors=vectors, tokens=tokens
                )
        committed = _anonymous_bytes()
        with Snapshot.open(directory) as snapshot:
            opened = _anonymous_bytes()
            started = time.perf_counter()
            total = sum(int(codes[:, 0].sum()) for codes in snapshot.token_codes(np.arange(arguments.chunks)))
            seconds = time.perf_counter() - started
            read = _anonymous_bytes()
            size = sum(file.size for file in snapshot.manifest.files if file.name.endswith("tokens.col"))
    return {
        "chunks": arguments.chunks,
        "file_mib": round(size / 2**20),
        "anonymous_mib": {"committed": committed >> 20, "opened": opened >> 20, "read": read >> 20},
        "highest_resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "read_seconds": round(seconds, 2),
        "sum": total,
    }


def _anonymous_bytes() -> int:
    """Memory of this process that is not the cache of a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def _encoder() -> Encoder:
    cache = Path.home() / ".cache" / "footnote-benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    return load_encoder(EncoderSpec(n_threads=1), cache)


def _texts(collection: BeirCollection) -> Iterator[str]:
    for document in collection.documents():
        yield f"{document.title}\n{document.text}" if document.title else document.text


def _token_vectors(encoder: Encoder, texts: Sequence[str], *, queries: bool = False) -> Iterator[Floats]:
    encode = encoder.encode_queries if queries else encoder.encode_documents
    for first in range(0, len(texts), TEXTS_A_BATCH):
        made = encode(texts[first : first + TEXTS_A_BATCH], with_tokens=True)
        for tokens in made.tokens or ():
            # Never none at all, so that every document and query has a largest product.
            yield tokens.vectors if len(tokens.vectors) else np.zeros((1, encoder.dim), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, work in (("train", train), ("quality", quality), ("speed", speed), ("mapped", mapped)):
        command = commands.add_parser(name, help=work.__doc__)
        command.set_defaults(work=work)
        command.add_argument("--json", type=Path)
        if name == "train":
            command.add_argument("--passages", type=Path, required=True)
            command.add_argument("--limit", type=int, default=1500)
            command.add_argument("--parts", type=int, default=32)
            command.add_argument("--out", type=Path, default=Path("indexing") / f"{TRAINED}.npz")
        if name == "quality":
            command.add_argument("--data", type=Path, required=True)
            command.add_argument("--queries", type=int, default=300, help="the first N of each collection")
            command.add_argument("--sets", nargs="+", default=["cranfield", "medline", "cisi"])
        if name == "mapped":
            command.add_argument("--chunks", type=int, default=100_000)
    arguments = parser.parse_args()
    described = machine.describe()
    result = {**described, **arguments.work(arguments)}
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
