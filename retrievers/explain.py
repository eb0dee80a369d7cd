"""Why a chunk was found, and where: its place in each list, its words, and its tokens beside the query's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from indexing.types import ChunkId, Floats, TokenVectors
from retrievers.base import Retriever
from retrievers.types import Hit, Passage, Query

FIRST_DEPTH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a chunk stands in one list. None: not known, or, of a rank, beyond what was looked through.

    `share` is what the list added to the score of the whole.
    """

    name: str
    rank: int | None
    score: float | None
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedToken:
    """A token of the query, and the token of the passage that is nearest to it.

    `[start, end)` are characters of the query, empty for a token without any; `passage_start` and
    `passage_end` are characters of the passage's text, None where the nearest token stands in its headings.
    """

    token: str
    start: int
    end: int
    nearest: str
    passage_start: int | None
    passage_end: int | None
    score: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """`score` is MaxSim: the sum over the tokens, each score times its weight."""

    score: float
    tokens: tuple[AlignedToken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankChange:
    """What the reranker made of a passage."""

    rank_before: int
    score_before: float
    rank: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HitExplanation:
    """Why a passage is a hit. `terms` is, by retriever, what each term adds to its score there."""

    places: tuple[Place, ...]
    terms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    alignment: Alignment | None = None
    rerank: RerankChange | None = None


def align(
    query: str,
    query_tokens: TokenVectors,
    text: str,
    tokens: TokenVectors,
    *,
    skipped: int = 0,
    weights: Floats | None = None,
) -> Alignment | None:
    """Each token of a query with the nearest of a text; None where either has no token.

    MaxSim, Σ_i w_i max_j ⟨q_i, d_j⟩: Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832, equation 3,
    with weights of 1 where none are given. The first of equally near tokens is taken. `skipped` characters at
    the beginning of the text are its headings.
    """
    if not len(query_tokens.vectors) or not len(tokens.vectors):
        return None
    each = np.ones(len(query_tokens.vectors)) if weights is None else weights
    products = query_tokens.vectors @ tokens.vectors.T
    nearest = products.argmax(axis=1)
    aligned = []
    for number, place in enumerate(nearest.tolist()):
        start, end = query_tokens.offsets[number].tolist()
        first, last = tokens.offsets[place].tolist()
        in_text = first >= skipped
        aligned.append(
            AlignedToken(
                token=query[start:end],
                start=start,
                end=end,
                nearest=text[first:last],
                passage_start=first - skipped if in_text else None,
                passage_end=last - skipped if in_text else None,
                score=float(products[number, place]),
                weight=float(each[number]),
            )
        )
    return Alignment(score=float(sum(token.weight * token.score for token in aligned)), tokens=tuple(aligned))


def places_of(passage: Passage, ranks: Mapping[str, int | None]) -> tuple[Place, ...]:
    """The place of a passage in every list that has a say in its score; `ranks` are those found out later.

    The shares add up to the score. Where only one list was searched, its share is all of the score.
    """
    names = dict.fromkeys([*passage.shares, *passage.ranks, *passage.scores])
    if not passage.shares and len(passage.scores) == 1:
        (name,) = passage.scores
        score = passage.scores[name]
        return (Place(name=name, rank=passage.rank, score=score, share=passage.score),)
    return tuple(
        Place(
            name=name,
            rank=passage.ranks.get(name, ranks.get(name)),
            score=passage.scores.get(name),
            share=passage.shares.get(name),
        )
        for name in names
    )


def ranks_of(
    retriever: Retriever, query: Query, chunk_ids: Collection[ChunkId], *, deepest: int
) -> dict[ChunkId, Hit]:
    """The hits of these chunks, as far as they are among the `deepest` best; none beyond is looked for."""
    depth = min(FIRST_DEPTH, deepest)
    wanted = set(chunk_ids)
    while wanted:
        (hits,) = retriever.retrieve([query], depth)
        found = {hit.chunk_id: hit for hit in hits if hit.chunk_id in wanted}
        if len(found) == len(wanted) or len(hits) < depth or depth >= deepest:
            return found
        depth = min(depth * 4, deepest)
    return {}


def rerank_changes(before: Sequence[Passage], after: Sequence[Passage]) -> dict[ChunkId, RerankChange]:
    """What a reranker did to each passage that it kept."""
    former = {passage.chunk.id: passage for passage in before}
    return {
        passage.chunk.id: RerankChange(
            rank_before=former[passage.chunk.id].rank,
            score_before=former[passage.chunk.id].score,
            rank=passage.rank,
            score=passage.score,
        )
        for passage in after
        if passage.chunk.id in former
    }


def heading_length(passage: Passage) -> int:
    """Characters of the contextual text before the passage's own."""
    return len(passage.chunk.contextual_text) - len(passage.chunk.text)
