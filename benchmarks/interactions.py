"""Whether a learned ranker over token similarities helps collections that it was not trained on.

    python -m benchmarks.interactions DATA/adi DATA/cisi DATA/medline --work WORK --same adi cisi

For each query the best candidates of BM25 and of the vectors are described by features of the matrix of inner
products of query and passage tokens; a linear ranker over them is learned by a listwise loss (ListNet, Cao et
al. 2007) on all collections but the one it is measured on. Features are standardised within a query. Rankers
differ in what they see; `auto` is the score of the default mode.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.auto import SHIPPED, Candidates, convex, ensemble, ndcg, query_of, say
from benchmarks.machine import describe
from indexing.chunking import ChunkerSpec
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.snapshot import Snapshot
from indexing.types import Floats
from retrievers.ensemble import EnsembleRetriever
from retrievers.evaluation.beir import BeirCollection, load_collection
from retrievers.evaluation.collection_index import document_names, open_index
from retrievers.late_interaction import token_weights
from retrievers.types import Query

KERNELS = np.array([0.95, 0.85, 0.75, 0.65, 0.55, 0.45, 0.35, 0.25])
WIDTH = 0.07
"""Of a kernel (Xiong et al. 2017, https://arxiv.org/abs/1706.06613, equation 5)."""
WINDOW = 24
PENALTY = 1e-2
QUERIES_LEARNED = 100
STEPS = 30
NAMES = ("convex", "auto", "maxsim", "top3", "window", "covered", "reverse", "length", *KERNELS.astype(str))
RANKERS: Mapping[str, Sequence[str]] = {
    "convex + maxsim": ("convex", "maxsim"),
    "+ top 3": ("convex", "maxsim", "top3"),
    "+ kernels": ("convex", "maxsim", *KERNELS.astype(str)),
    "+ window": ("convex", "maxsim", "window"),
    "+ all but kernels": ("convex", "maxsim", "window", "covered", "reverse", "length"),
    "auto": ("auto",),
    "auto + window": ("auto", "window"),
    "auto + covered": ("auto", "covered"),
    "auto + reverse": ("auto", "reverse"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """The candidates of a query with their features, shape (n, len(NAMES)), and their gains."""

    candidates: Candidates
    features: Floats
    gains: Floats


def described(
    snapshot: Snapshot, query: Query, names: Mapping[int, str], judged: Mapping[str, int]
) -> Described:
    assert query.tokens is not None
    (hits,) = EnsembleRetriever(snapshot).retrieve([query], 2 * SHIPPED.candidate_k)
    hits = [hit for hit in hits if "neighbours" in hit.shares]
    ids = np.array([hit.chunk_id for hit in hits], dtype=np.int64)
    candidates = Candidates(
        documents=[names[hit.document_id] for hit in hits],
        scores={
            name: np.array([hit.scores[name] for hit in hits], dtype=np.float32) for name in hits[0].scores
        },
        vectors=snapshot.vectors.take(ids),
    )
    weights = token_weights(snapshot, query.text, query.tokens)
    weights = weights / max(float(weights.sum()), 1e-9)
    rows = [
        [*shares, *interaction(query.tokens.vectors, passage, weights)]
        for *shares, passage in zip(
            convex(candidates),
            ensemble(SHIPPED)(candidates),
            snapshot.token_vectors(ids),
            strict=True,
        )
    ]
    features = np.nan_to_num(np.array(rows))
    spread = features.std(axis=0) + 1e-4
    gains = np.array([max(judged.get(document, 0), 0) for document in candidates.documents], np.float32)
    standard = np.clip((features - features.mean(axis=0)) / spread, -6, 6)
    return Described(candidates=candidates, features=standard.astype(np.float32), gains=gains)


def interaction(query: Floats, passage: Floats, weights: Floats) -> list[float]:
    """The features after `auto`, in the order of NAMES, of the inner products (n_query, n_passage)."""
    products = query @ (passage if len(passage) else np.zeros((1, query.shape[1]))).T
    n_tokens = products.shape[1]
    best = products.max(axis=1)
    top = np.sort(products, axis=1)[:, ::-1]
    starts = range(0, max(n_tokens - WINDOW // 2, 1), WINDOW // 2)
    kernels = np.exp(-((products[:, None] - KERNELS[None, :, None]) ** 2) / (2 * WIDTH**2)).sum(axis=2)
    return [
        float(weights @ best),
        float(weights @ top[:, :3].mean(axis=1)),
        max(float(weights @ products[:, at : at + WINDOW].max(axis=1)) for at in starts),
        float(weights @ (best > 0.8)),
        float(np.sort(products.max(axis=0))[::-1][: max(n_tokens // 10, 1)].mean()),
        float(np.log1p(n_tokens)),
        *(weights @ np.log1p(kernels)).tolist(),
    ]


def learn(collections: Sequence[Sequence[Described]], columns: Sequence[int]) -> Floats:
    """Weights of the features by gradient descent on the listwise loss, every collection counting alike."""
    import torch

    parts = []
    for queries in collections:
        useful = [it for it in queries if it.gains.any() and not it.gains.all()][:QUERIES_LEARNED]
        for it in useful:
            share = torch.from_numpy(it.gains / it.gains.sum()) / (len(useful) * len(collections))
            parts.append((torch.from_numpy(it.features[:, columns]), share))
    weights = torch.zeros(len(columns))
    weights[0] = 1.0
    start = weights.clone()
    weights.requires_grad = True
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        terms = [-(gains * torch.log_softmax(features @ weights, 0)).sum() for features, gains in parts]
        total = torch.stack(terms).sum() + PENALTY * ((weights - start) ** 2).sum()
        torch.autograd.backward(total)
        return total

    optimizer.step(loss)
    return np.asarray(weights.detach().numpy(), np.float32)


def describe_collection(
    collection: BeirCollection, encoder: Encoder, work: Path, limit: int
) -> dict[str, Described]:
    query_ids = list(collection.qrels)[:: -(-len(collection.qrels) // limit)]
    snapshot, _ = open_index(collection, encoder, ChunkerSpec(), work, say)
    names = document_names(collection)
    with snapshot:
        return {
            query_id: described(
                snapshot, query_of(encoder, collection.queries[query_id]), names, collection.qrels[query_id]
            )
            for query_id in query_ids
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--same", nargs="*", default=[], help="collections with the same queries")
    parser.add_argument("--limit", type=int, default=300, help="queries of a collection")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    encoder = load_encoder(EncoderSpec(), arguments.work / "models")
    collections = {folder.name: load_collection(folder) for folder in arguments.folders}
    found = {
        name: describe_collection(collection, encoder, arguments.work, arguments.limit)
        for name, collection in collections.items()
    }
    results: dict[str, dict[str, float]] = {}
    for ranker, seen in RANKERS.items():
        columns = [NAMES.index(name) for name in seen]
        results[ranker] = {}
        for name, collection in collections.items():
            others = [
                list(queries.values())
                for other, queries in found.items()
                if other != name and not {name, other} <= set(arguments.same)
            ]
            weights = learn(others, columns)
            by_candidates = {
                id(it.candidates): it.features[:, columns] @ weights for it in found[name].values()
            }
            candidates = {key: it.candidates for key, it in found[name].items()}
            results[ranker][name] = ndcg(collection, candidates, lambda it: by_candidates[id(it)])  # noqa: B023
        mean = float(np.mean(list(results[ranker].values())))
        print(
            f"{ranker:20}", *(f"{name} {value:.4f}" for name, value in results[ranker].items()), f"{mean:.4f}"
        )
    if arguments.json is not None:
        record: dict[str, Any] = {"results": results, "limit": arguments.limit, "machine": describe()}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
