"""Measures a retrieval mode on a collection: quality over all judged queries, and the time of one query."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.base import Encoder
from indexing.snapshot import Snapshot
from indexing.types import DocumentId
from retrievers.base import Retriever
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever
from retrievers.evaluation.beir import BeirCollection, Qrels, load_collection
from retrievers.evaluation.collection_index import (
    Progress,
    collection_chunks,
    document_names,
    open_index,
)
from retrievers.evaluation.errors import EvaluationError
from retrievers.evaluation.metrics import PerQuery, mean_metrics, score_run
from retrievers.evaluation.runs import Ranking, Run, rank_documents, without_own_id
from retrievers.hybrid import HybridRetriever
from retrievers.rank_bm25 import RankBm25Retriever
from retrievers.types import Query

TOP_K = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Metrics are means over `n_queries` judged queries; latencies are milliseconds for a query by itself.

    The seconds are those of building the index, which may have been earlier. `per_query` (metric → query id →
    value) and `run` are for comparing systems, and not part of the JSON.
    """

    dataset: str
    split: str
    mode: str
    metrics: Mapping[str, float]
    latency_ms: Mapping[str, float]
    n_queries: int
    n_documents: int
    n_chunks: int
    chunk_seconds: float
    encode_seconds: float
    index_seconds: float
    settings: Mapping[str, Any]
    per_query: PerQuery = field(repr=False)
    run: Run = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__ if name not in ("per_query", "run")}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def evaluate(
    folder: Path,
    *,
    mode: str,
    encoder: Encoder,
    work_dir: Path,
    chunker_spec: ChunkerSpec | None = None,
    split: str | None = None,
    top_k: int = TOP_K,
    limit: int | None = None,
    exclude_own_id: bool = False,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Measures a mode ("bm25", "rank_bm25", "dense", "hybrid", "rrf"; "auto" is "hybrid") on a BEIR folder.

    The index is built once in `work_dir` and serves every mode. `limit` takes the first so many judged
    queries. Metrics are those of the best `top_k` documents, each by its best chunk. `exclude_own_id` leaves
    out the document that bears the query's id, for collections whose queries are documents; elsewhere equal
    ids mean nothing. Time counts from the query's text to the ranking of documents, encoding included.

    Raises:
        EvaluationError: the collection cannot be read, the mode is unknown, or ir-measures is not installed.
    """
    build = _builder(mode)
    say = progress or (lambda _stage, _done, _total: None)
    collection = load_collection(folder, split)
    spec = chunker_spec or ChunkerSpec(max_tokens=min(ChunkerSpec().max_tokens, encoder.max_tokens))
    snapshot, facts = open_index(collection, encoder, spec, work_dir, say)
    with snapshot:
        search = _DocumentSearch(
            retriever=build(snapshot, collection, Chunker(spec, encoder.count_tokens)),
            encoder=None if mode in _WITHOUT_VECTORS else encoder,
            names=document_names(collection),
            chunks_per_document=-(-facts.n_chunks // max(facts.n_documents, 1)),
        )
        qrels = dict(islice(collection.qrels.items(), limit))
        run, seconds = _run(search, collection, qrels, top_k + exclude_own_id, say)
    if exclude_own_id:
        run = without_own_id(run)
    run = {query_id: ranking[:top_k] for query_id, ranking in run.items()}
    per_query = score_run(qrels, run)
    return EvaluationResult(
        dataset=collection.name,
        split=collection.split,
        mode=mode,
        metrics=mean_metrics(per_query),
        latency_ms=_latencies(seconds),
        n_queries=len(qrels),
        settings={
            "encoder": encoder.name,
            "encoder_fingerprint": encoder.fingerprint,
            "chunker": asdict(spec),
            "top_k": top_k,
            "limit": limit,
            "exclude_own_id": exclude_own_id,
        },
        per_query=per_query,
        run=run,
        **asdict(facts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _DocumentSearch:
    """From a query's text to documents; `encoder` is None where no vector is needed."""

    retriever: Retriever
    encoder: Encoder | None
    names: Mapping[int, str]
    chunks_per_document: int

    def __call__(self, text: str, top_k: int) -> Ranking:
        vector = self.encoder.encode_queries([text]).vectors[0] if self.encoder is not None else None
        query = Query(text=text, vector=vector)
        n_wanted = min(top_k, len(self.names))
        n_chunks = n_wanted * self.chunks_per_document
        while True:
            (hits,) = self.retriever.retrieve([query], n_chunks)
            n_found = len({DocumentId(hit.document_id) for hit in hits})
            if n_found >= n_wanted or len(hits) < n_chunks:
                return rank_documents(hits, self.names, top_k)
            n_chunks *= 2


def _run(
    search: _DocumentSearch, collection: BeirCollection, qrels: Qrels, top_k: int, say: Progress
) -> tuple[Run, list[float]]:
    # The first search opens files and warms caches; it is not what a query costs.
    search(collection.queries[next(iter(qrels))], top_k)
    run: dict[str, Ranking] = {}
    seconds = []
    for done, query_id in enumerate(qrels, start=1):
        began = time.perf_counter()
        run[query_id] = search(collection.queries[query_id], top_k)
        seconds.append(time.perf_counter() - began)
        say("search", done, len(qrels))
    return run, seconds


def _latencies(seconds: list[float]) -> dict[str, float]:
    milliseconds = np.array(seconds) * 1000
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "mean": float(milliseconds.mean())}


Build = Callable[[Snapshot, BeirCollection, Chunker], Retriever]


def _rank_bm25(_snapshot: Snapshot, collection: BeirCollection, chunker: Chunker) -> Retriever:
    chunks = collection_chunks(collection, chunker)
    return RankBm25Retriever((chunk.id, DocumentId(chunk.document_id), chunk.text) for chunk in chunks)


_BUILDERS: Mapping[str, Build] = {
    "bm25": lambda snapshot, _collection, _chunker: Bm25Retriever(snapshot),
    "rank_bm25": _rank_bm25,
    "dense": lambda snapshot, _collection, _chunker: DenseRetriever(snapshot),
    "hybrid": lambda snapshot, _collection, _chunker: HybridRetriever(snapshot),
    "rrf": lambda snapshot, _collection, _chunker: HybridRetriever(snapshot, method="rrf"),
}
_WITHOUT_VECTORS = ("bm25", "rank_bm25")


def _builder(mode: str) -> Build:
    try:
        return _BUILDERS["hybrid" if mode == "auto" else mode]
    except KeyError as exc:
        raise EvaluationError(f"There is no mode {mode!r}; the modes are {', '.join(_BUILDERS)}.") from exc
