"""Why each hit of a search is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from indexing.errors import EncoderError
from indexing.types import ChunkId, TokenVectors
from retrievers.best_sentences import SentenceScore, best_sentence
from retrievers.explain import (
    HitExplanation,
    align,
    heading_length,
    places_of,
    ranks_of,
    rerank_changes,
)
from retrievers.late_interaction import token_weights
from retrievers.modes import MODES, sparse_retriever
from retrievers.ngrams import Match, find, ngrams_of
from retrievers.reranking.late import LateInteractionReranker
from retrievers.rm3 import Rm3Retriever
from retrievers.types import Mode, Passage, Query

if TYPE_CHECKING:
    from app.versions.indexes import OpenIndex
    from indexing.types import Ids
    from retrievers.explain import Alignment
    from retrievers.pipeline import Outcome, Pipeline

DEEPEST = 1000
"""Ranks of hits are looked for down to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a search went through."""

    query: str
    mode: Mode
    index: OpenIndex
    pipeline: Pipeline
    outcome: Outcome
    top_k: int
    allowed: Ids | None

    @property
    def searched(self) -> Query | None:
        """The query as it was searched with; None where a transformation made several of it."""
        queries = self.outcome.queries
        return queries[0] if len(queries) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchExplanation:
    """What holds for the search as a whole, and each hit's own explanation."""

    mode: Mode
    filters: Mapping[str, Any] | None
    n_allowed_documents: int | None
    candidate_k: int
    rerank_k: int | None
    searched_with: tuple[str, ...]
    hits: Mapping[ChunkId, HitExplanation] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTokens:
    """Token vectors of the query and of the passages, encoded now: an index keeps no offsets of them."""

    query: TokenVectors
    passages: tuple[TokenVectors, ...]


def live_tokens(trace: Trace) -> LiveTokens | None:
    """None where the model has no token vectors."""
    texts = [passage.chunk.contextual_text for passage in trace.outcome.passages]
    try:
        asked = trace.index.encoder.encode_queries([trace.query], with_tokens=True).tokens
        given = trace.index.encoder.encode_documents(texts, with_tokens=True).tokens
    except EncoderError:
        return None
    return None if asked is None or given is None else LiveTokens(query=asked[0], passages=given)


def sentences_of(trace: Trace, live: LiveTokens | None) -> dict[ChunkId, SentenceScore]:
    """The best sentence of each passage that has one."""
    if live is None:
        return {}
    found = {
        passage.chunk.id: best_sentence(
            passage.chunk.text, tokens, live.query, skipped=heading_length(passage)
        )
        for passage, tokens in zip(trace.outcome.passages, live.passages, strict=True)
    }
    return {key: sentence for key, sentence in found.items() if sentence is not None}


def matches_of(trace: Trace) -> dict[ChunkId, tuple[Match, ...]]:
    """Where n-grams of the query stand in the passages that were found by them."""
    terms_of = trace.index.snapshot.lexical.terms_of
    ngrams = ngrams_of(trace.query, terms_of)
    return {
        passage.chunk.id: tuple(find(ngrams, passage.chunk.text, terms_of))
        for passage in trace.outcome.passages
        if "ngram" in passage.scores
    }


def explain_search(
    trace: Trace, live: LiveTokens | None, filters: Mapping[str, Any] | None
) -> SearchExplanation:
    """Raises what a search raises."""
    return SearchExplanation(
        mode=trace.mode,
        filters=filters,
        n_allowed_documents=None if trace.allowed is None else len(trace.allowed),
        candidate_k=trace.index.resources.tuning.candidate_k,
        rerank_k=None if trace.pipeline.reranker is None else trace.pipeline.rerank_k,
        searched_with=tuple(query.text for query in trace.outcome.queries),
        hits=_hits(trace, live),
    )


def _hits(trace: Trace, live: LiveTokens | None) -> dict[ChunkId, HitExplanation]:
    passages = trace.outcome.passages
    fused = {passage.chunk.id: passage for passage in trace.outcome.candidates or passages}
    ranks = _ranks(trace, [fused[passage.chunk.id] for passage in passages])
    alignments = {} if live is None else _alignments(trace, live)
    changes = rerank_changes(trace.outcome.candidates, passages) if trace.pipeline.reranker else {}
    return {
        key: HitExplanation(
            places=places_of(fused[key], ranks.get(key, {})),
            terms=_terms(trace, fused[key]),
            alignment=alignments.get(key),
            rerank=changes.get(key),
        )
        for key in (passage.chunk.id for passage in passages)
    }


def _terms(trace: Trace, passage: Passage) -> dict[str, Mapping[str, float]]:
    resources, key = trace.index.resources, passage.chunk.id
    terms = {"bm25": resources.snapshot.lexical.contributions(trace.query, key)}
    if "sparse" in passage.scores:
        terms["sparse"] = sparse_retriever(resources).contributions(trace.query, key)
    if "rm3" in passage.scores and trace.searched is not None:
        feedback = Rm3Retriever(resources.snapshot)
        terms["rm3"] = feedback.contributions(trace.searched, key, passage.chunk.contextual_text)
    return terms


def _ranks(trace: Trace, passages: Sequence[Passage]) -> dict[ChunkId, dict[str, int]]:
    """Ranks in the lists that scored a passage without having it among their candidates."""
    query = trace.searched
    found: dict[ChunkId, dict[str, int]] = {}
    if query is None:
        return found
    unranked: dict[str, list[ChunkId]] = {}
    for passage in passages:
        for name in passage.scores if len(passage.scores) > 1 else ():
            if name in MODES and name not in passage.ranks:
                unranked.setdefault(name, []).append(passage.chunk.id)
    for name, keys in unranked.items():
        retriever = MODES[cast(Mode, name)].build(trace.index.resources)
        for key, hit in ranks_of(retriever, query, keys, deepest=DEEPEST).items():
            found.setdefault(key, {})[name] = hit.rank
    return found


def _alignments(trace: Trace, live: LiveTokens) -> dict[ChunkId, Alignment | None]:
    """With the weights that the search gave to the tokens of the query."""
    weights = None
    weighed = any("maxsim" in passage.scores for passage in trace.outcome.passages)
    if weighed or isinstance(trace.pipeline.reranker, LateInteractionReranker):
        weights = token_weights(trace.index.snapshot, trace.query, live.query)
    return {
        passage.chunk.id: align(
            trace.query,
            live.query,
            passage.chunk.contextual_text,
            tokens,
            skipped=heading_length(passage),
            weights=weights,
        )
        for passage, tokens in zip(trace.outcome.passages, live.passages, strict=True)
    }
