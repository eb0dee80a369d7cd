"""The read path below the service: transform → encode → retrieve → fuse → load → rerank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from indexing.encoding.base import Encoder
from indexing.errors import IndexDamaged
from indexing.types import Floats
from retrievers.base import Reranker, Retriever
from retrievers.fusion import RRF_K
from retrievers.hits import fuse_rankings
from retrievers.timings import Timings
from retrievers.transformation.base import Transformation, Transformed, Variant
from retrievers.types import Hit, Passage, Query

MARGIN = 8
"""Hits fetched beyond `top_k`, for those whose chunk went since the snapshot was taken."""

RERANK_K = 50

VARIANT_K = 100
"""Hits of each variant that are fused at least: what is best should not depend on how many are shown."""

Load = Callable[[Sequence[Hit]], tuple[Passage, ...]]
"""Authorises hits and loads their chunks; those that may not be shown, or are gone, are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Passages, best first, ranked from 1; `transformed` is what was searched with, if not the query.

    `candidates` are the passages that went to the reranker, if there is one; `queries` as they were encoded.
    """

    passages: tuple[Passage, ...]
    transformed: Transformed | None = None
    candidates: tuple[Passage, ...] = ()
    queries: tuple[Query, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The steps of one mode over one snapshot.

    `rerank_k` passages go to the reranker, or `top_k` if that is more. Where a transformation gives several
    variants, their rankings are fused by weighted reciprocal ranks.
    """

    retriever: Retriever
    encoder: Encoder
    needs_vector: bool = True
    needs_tokens: bool = False
    transformation: Transformation | None = None
    reranker: Reranker | None = None
    rerank_k: int = RERANK_K
    rrf_k: int = RRF_K
    timings: Timings = field(default_factory=Timings)

    def run(self, query: Query, top_k: int, load: Load) -> Outcome:
        """The best `top_k` passages. Raises EncoderError, and IndexDamaged where a search cannot be done."""
        transformed = self.transform(query.text)
        queries = self.encode(query, transformed)
        n_needed = top_k if self.reranker is None else max(top_k, self.rerank_k)
        wanted = n_needed + MARGIN
        while True:
            hits = self.retrieve(queries, transformed, wanted)
            with self.timings.stage("load"):
                passages = load(hits)
            if len(passages) >= n_needed or len(hits) < wanted:
                break
            wanted *= 2  # chunks of the snapshot were deleted meanwhile: look further down
        passages = passages[:n_needed]
        candidates = () if self.reranker is None else passages
        if self.reranker is not None:
            with self.timings.stage("rerank"):
                passages = tuple(self.reranker.rerank(queries[0], passages, top_k))
        return Outcome(
            passages=passages[:top_k],
            transformed=None if self.transformation is None else transformed,
            candidates=candidates,
            queries=tuple(queries),
        )

    def transform(self, text: str) -> Transformed:
        if self.transformation is None:
            return Transformed(variants=(Variant(text=text),))
        with self.timings.stage("transform"):
            return self.transformation.transform(text)

    def encode(self, query: Query, transformed: Transformed) -> list[Query]:
        """A query for each variant, with its vector and token vectors where they are needed."""
        variants = transformed.variants
        queries = [replace(query, text=variant.text) for variant in variants]
        if not self.needs_vector:
            return queries
        with self.timings.stage("encode"):
            encoded = self.encoder.encode_queries(
                [variant.text for variant in variants], with_tokens=self.needs_tokens
            )
            vectors = [
                self._mean(vector, variant.passages)
                for vector, variant in zip(encoded.vectors, variants, strict=True)
            ]
        tokens = encoded.tokens or (None,) * len(variants)
        return [
            replace(variant, vector=vector, tokens=of_text)
            for variant, vector, of_text in zip(queries, vectors, tokens, strict=True)
        ]

    def retrieve(self, queries: Sequence[Query], transformed: Transformed, top_k: int) -> list[Hit]:
        with self.timings.stage("retrieve"):
            try:
                n_each = top_k if len(queries) == 1 else max(top_k, VARIANT_K)
                rankings = self.retriever.retrieve(queries, n_each)
            except (IndexError, KeyError, ValueError, RuntimeError) as error:
                # The files give what no sound index gives.
                raise IndexDamaged(
                    f"The index cannot be searched: {type(error).__name__}: {error}"
                ) from error
            if len(rankings) == 1:
                return rankings[0]
            weights = [variant.weight for variant in transformed.variants]
            return fuse_rankings(rankings, weights, k=self.rrf_k, top_k=top_k)

    def _mean(self, vector: Floats, passages: Sequence[str]) -> Floats:
        """HyDE: the mean of the query's vector and those of hypothetical passages, of length 1.

        Gao et al. 2022, https://arxiv.org/abs/2212.10496, equation 8.
        """
        if not passages:
            return vector
        total = vector + self.encoder.encode_documents(list(passages)).vectors.sum(axis=0)
        return np.asarray(total / np.linalg.norm(total), dtype=np.float32)
