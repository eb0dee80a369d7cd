"""Measures a retrieval mode on a collection: quality over all judged queries, and the time of one query."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.base import Encoder
from indexing.encoding.sparse import SparseEncoder
from indexing.snapshot import Snapshot
from indexing.types import ChunkId, DocumentId
from retrievers.base import Retriever
from retrievers.evaluation.beir import BeirCollection, Qrels, load_collection
from retrievers.evaluation.collection_index import (
    Progress,
    collection_chunks,
    document_names,
    open_index,
)
from retrievers.evaluation.expansions import (
    NodesAbout,
    Questions,
    neighbour_expansions,
    written_questions,
)
from retrievers.evaluation.metrics import PerQuery, mean_metrics, score_run
from retrievers.evaluation.reranked import rerank_hits
from retrievers.evaluation.runs import Ranking, Run, rank_documents, without_own_id
from retrievers.evaluation.system import System
from retrievers.evaluation.tree import EvaluationTree, TreeMaking
from retrievers.modes import Resources
from retrievers.pipeline import Pipeline
from retrievers.rank_bm25 import RankBm25Retriever
from retrievers.types import Hit, Query, Texts

TOP_K = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Metrics are means over `n_queries` judged queries; latencies are milliseconds for a query by itself.

    The seconds are those of building the index, which may have been earlier. `bytes_per_chunk` are those of
    the whole index by kind of file, whatever of it the mode reads, and their `total`. `per_query` (metric →
    query id → value) and `run` are for comparing systems, and not part of the JSON.
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
    bytes_per_chunk: Mapping[str, float]
    settings: Mapping[str, Any]
    per_query: PerQuery = field(repr=False)
    run: Run = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__ if name not in ("per_query", "run")}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def evaluate(
    folder: Path,
    system: System,
    *,
    encoder: Encoder,
    work_dir: Path,
    sparse: SparseEncoder | None = None,
    questions: Questions | None = None,
    tree: TreeMaking | None = None,
    chunker_spec: ChunkerSpec | None = None,
    split: str | None = None,
    top_k: int = TOP_K,
    limit: int | None = None,
    exclude_own_id: bool = False,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Measures a system on a BEIR folder.

    The index is built once in `work_dir` and serves every system; `sparse` makes the learned sparse vectors
    that the mode `sparse` needs, `questions` what the mode `questions` does, and `tree` says how one is
    grown. `limit` takes the first so many judged queries. Metrics are those of the best `top_k` documents,
    each by its best chunk. `exclude_own_id` leaves out the document that bears the query's id, for
    collections whose queries are documents; elsewhere equal ids mean nothing. Time counts from the query's
    text to the ranking of documents, encoding included. The result's settings say how often a transformation
    or a reranker fell back, and why.

    Raises:
        EvaluationError: the collection cannot be read, the mode is unknown, or ir-measures is not installed.
        LanguageModelError: questions are to be written, and no model answers.
    """
    system.mode_spec()  # refuses an unknown mode before any work
    say = progress or (lambda _stage, _done, _total: None)
    collection = load_collection(folder, split)
    spec = chunker_spec or ChunkerSpec(max_tokens=min(ChunkerSpec().max_tokens, encoder.max_tokens))
    snapshot, facts = open_index(collection, encoder, spec, work_dir, say, sparse)
    with snapshot:
        chunker = Chunker(spec, encoder.count_tokens)
        resources = replace(
            _resources(snapshot, collection, chunker, sparse, encoder, questions, tree, say),
            tuning=system.tuning,
        )
        rerank_notes: list[str] = []
        search = _DocumentSearch(
            pipeline=system.pipeline(resources, encoder, rerank_notes.append),
            texts=resources.texts,
            rerank_notes=rerank_notes,
            names=document_names(collection),
            chunks_per_document=-(-facts.n_chunks // max(facts.n_documents, 1)),
        )
        sizes = _bytes_per_chunk(snapshot, facts.n_chunks)
        qrels = dict(islice(collection.qrels.items(), limit))
        run, seconds = _run(search, collection, qrels, top_k + exclude_own_id, say)
    if exclude_own_id:
        run = without_own_id(run)
    run = {query_id: ranking[:top_k] for query_id, ranking in run.items()}
    per_query = score_run(qrels, run)
    return EvaluationResult(
        dataset=collection.name,
        split=collection.split,
        mode=system.label,
        metrics=mean_metrics(per_query),
        latency_ms=_latencies(seconds),
        n_queries=len(qrels),
        bytes_per_chunk=sizes,
        settings={
            "encoder": encoder.name,
            "encoder_fingerprint": encoder.fingerprint,
            "chunker": asdict(spec),
            "top_k": top_k,
            "limit": limit,
            "exclude_own_id": exclude_own_id,
            **system.settings(),
            "transform_notes": dict(Counter(search.notes)),
            "rerank_notes": dict(Counter(rerank_notes)),
        },
        per_query=per_query,
        run=run,
        **asdict(facts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _DocumentSearch:
    """From a query's text to documents."""

    pipeline: Pipeline
    texts: Texts
    names: Mapping[int, str]
    chunks_per_document: int
    notes: list[str] = field(default_factory=list)
    rerank_notes: list[str] = field(default_factory=list)

    def __call__(self, text: str, top_k: int) -> Ranking:
        transformed = self.pipeline.transform(text)
        if transformed.note:
            self.notes.append(transformed.note)
        queries = self.pipeline.encode(Query(text=text), transformed)
        n_wanted = min(top_k, len(self.names))
        n_chunks = n_wanted * self.chunks_per_document
        while True:
            hits = self.pipeline.retrieve(queries, transformed, n_chunks)
            n_found = len({DocumentId(hit.document_id) for hit in hits})
            if n_found >= n_wanted or len(hits) < n_chunks:
                return rank_documents(self._rerank(queries[0], hits), self.names, top_k)
            n_chunks *= 2

    def _rerank(self, query: Query, hits: list[Hit]) -> list[Hit]:
        pipeline = self.pipeline
        if pipeline.reranker is None:
            return hits
        return rerank_hits(pipeline.reranker, query, hits, self.texts, pipeline.rerank_k)


def _run(
    search: _DocumentSearch, collection: BeirCollection, qrels: Qrels, top_k: int, say: Progress
) -> tuple[Run, list[float]]:
    # The first search opens files and warms caches; it is not what a query costs.
    search(collection.queries[next(iter(qrels))], top_k)
    search.notes.clear()
    search.rerank_notes.clear()
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


def _bytes_per_chunk(snapshot: Snapshot, n_chunks: int) -> dict[str, float]:
    sizes: Counter[str] = Counter()
    for segment in snapshot.manifest.segments:
        for file in segment.files:
            sizes[Path(file.name).stem] += file.size
    sizes["total"] = sum(sizes.values())
    return {name: size / max(n_chunks, 1) for name, size in sizes.items()}


def _resources(
    snapshot: Snapshot,
    collection: BeirCollection,
    chunker: Chunker,
    sparse: SparseEncoder | None,
    encoder: Encoder,
    questions: Questions | None,
    tree: TreeMaking | None,
    say: Progress,
) -> Resources:
    def rank_bm25() -> Retriever:
        chunks = collection_chunks(collection, chunker)
        return RankBm25Retriever((chunk.id, DocumentId(chunk.document_id), chunk.text) for chunk in chunks)

    @cache
    def texts() -> dict[ChunkId, str]:
        return {chunk.id: chunk.text for chunk in collection_chunks(collection, chunker)}

    nodes = EvaluationTree(snapshot, texts, encoder, say, tree).nodes
    nodes = NodesAbout(neighbour_expansions(snapshot, texts), snapshot, say).beside(nodes)
    if questions is not None:
        written = written_questions(snapshot, texts, encoder, questions)
        nodes = NodesAbout(written, snapshot, say).beside(nodes)
    return Resources(
        snapshot=snapshot,
        texts=lambda chunk_ids: [texts().get(chunk_id, "") for chunk_id in chunk_ids],
        rank_bm25=rank_bm25,
        sparse=lambda: sparse,
        nodes=nodes,
    )
