"""The sentence of a passage that a query is about, from the token vectors of one pass."""

from __future__ import annotations

from dataclasses import dataclass

from indexing.sentences import split_sentences
from indexing.types import TokenVectors


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceScore:
    """Characters `[start, end)` of a passage's text, and how near the query is; higher is nearer."""

    start: int
    end: int
    score: float


def score_sentences(
    text: str, tokens: TokenVectors, query: TokenVectors, *, skipped: int = 0
) -> list[SentenceScore]:
    """MaxSim of each sentence that has tokens, in the order of the text, by the n tokens of the query.

    Σ_i max_{j in the sentence} ⟨q_i, d_j⟩ / n, between -1 and 1. The offsets of `tokens` count from `skipped`
    characters before the text: its headings, which are encoded with it and are no sentence. Each token has
    seen the whole passage, so a sentence is scored in context. None is scored by a query without tokens.
    """
    if not len(query.vectors) or not len(tokens.vectors):
        return []
    products = query.vectors @ tokens.vectors.T
    starts = tokens.offsets[:, 0] - skipped
    found = []
    for start, end in split_sentences(text):
        inside = (starts >= start) & (starts < end)
        if inside.any():
            score = float(products[:, inside].max(axis=1).mean())
            found.append(SentenceScore(start=start, end=end, score=score))
    return found


def best_sentence(
    text: str, tokens: TokenVectors, query: TokenVectors, *, skipped: int = 0
) -> SentenceScore | None:
    """The sentence with the highest score, the first of equals; None where none has one."""
    scored = score_sentences(text, tokens, query, skipped=skipped)
    return max(scored, key=lambda sentence: sentence.score, default=None)
