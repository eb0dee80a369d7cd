"""From a reranker's scores to passages in their new order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from retrievers.types import Passage

NAME = "rerank"
"""Under which a passage keeps the score of the reranker."""


def placed(passages: Sequence[Passage], scores: Mapping[int, float], top_k: int) -> list[Passage]:
    """The best `top_k` by score, ranked from 1; ties keep their former order.

    `scores` gives the score of a passage by its place. Passages without one stand below all others, in their
    former order and with the score 0; they have no entry `rerank` among their scores.
    """
    order = sorted(range(len(passages)), key=lambda place: (place not in scores, -scores.get(place, 0.0)))
    return [
        replace(
            passages[place],
            rank=rank,
            score=scores.get(place, 0.0),
            scores={**passages[place].scores, NAME: scores[place]}
            if place in scores
            else passages[place].scores,
        )
        for rank, place in enumerate(order[:top_k], start=1)
    ]


def as_they_were(passages: Sequence[Passage], top_k: int) -> list[Passage]:
    """The passages in their former order, with their former scores: where nothing was reranked."""
    return [replace(passage, rank=rank) for rank, passage in enumerate(passages[:top_k], start=1)]
