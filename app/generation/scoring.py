"""How well each sentence answers the question, and how sure one can be that any of them does."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.generation.candidates import Candidate
from app.generation.words import inverse_frequencies, stems
from indexing.encoding.base import Encoder
from indexing.types import Floats, TokenVectors
from retrievers.types import Passage

ROW_PENALTY = 0.15
"""Chosen by eye on the manual, whose settings stand both in tables and in sentences."""

ENCODED_CHARS = 3000
"""Sentences are encoded up to this length in all, about 700 tokens. On four collections it finds as many
answers as encoding every sentence of eight passages does, in a third of the time."""

FILL_WORD_WEIGHT = 0.15
"""Weight of a token of a word without a meaning of its own, as a share of the rarest word's."""

LARGEST_PENALTY = 0.25
"""The most that a sentence loses for standing in a passage with a lower score than the best one's."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeness:
    """How near the passages come to the question: the highest cosine of a sentence, the highest mean over
    the question's tokens of their best match in one sentence, and the cosine of the first passage."""

    sentence: float
    tokens: float
    passage: float

    @property
    def confidence(self) -> float:
        """Probability-like, in [0, 1]; `python -m benchmarks.answers_confidence` fits the coefficients."""
        logit = 6.55 * self.sentence + 10.02 * self.tokens + 5.17 * self.passage - 10.49
        return 1 / (1 + math.exp(-logit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The sentences that were compared, with one score each and their vectors (n, dim) of length 1."""

    candidates: Sequence[Candidate]
    scores: Floats
    vectors: Floats
    closeness: Closeness


def score(encoder: Encoder, question: str, candidates: Sequence[Candidate]) -> Scored:
    """Scores of the most promising candidates, of which there must be one at least.

    A score is the sum of two: MaxSim of the question's tokens over the sentence's, each weighted by the
    idf of its word among the candidates (Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832, with
    weights), and the passage's score relative to the best passage's, which is 0 or less. A row of a table
    gives way to a sentence that is nearly as close.
    """
    words = [set(stems(candidate.text)) for candidate in candidates]
    rarity = word_rarity(question, words)
    chosen = preselect(candidates, coverage(rarity, words))
    kept = [candidates[at] for at in chosen]
    query = encoder.encode_queries([question], with_tokens=True)
    best_passage = min(candidates, key=lambda candidate: candidate.place).passage
    encoded = encoder.encode_documents(
        [*(candidate.text for candidate in kept), best_passage.chunk.contextual_text], with_tokens=True
    )
    assert query.tokens is not None
    assert encoded.tokens is not None
    matches = [best_matches(query.tokens[0], tokens) for tokens in encoded.tokens[:-1]]
    weights = token_weights(question, query.tokens[0], rarity)
    late = np.array([weights @ match for match in matches], dtype=np.float32)
    penalties = relative_scores([candidate.passage for candidate in kept])
    penalties -= ROW_PENALTY * np.array([candidate.is_row for candidate in kept], dtype=np.float32)
    cosines = encoded.vectors @ query.vectors[0]
    return Scored(
        candidates=kept,
        scores=late + penalties,
        vectors=encoded.vectors[:-1],
        closeness=Closeness(
            sentence=float(cosines[:-1].max()),
            tokens=max(float(match.mean()) if len(match) else 0.0 for match in matches),
            passage=float(cosines[-1]),
        ),
    )


def word_rarity(question: str, word_sets: Sequence[set[str]]) -> dict[str, float]:
    """The idf of each of the question's words among the texts; one that none has counts as the rarest."""
    frequencies = inverse_frequencies(word_sets)
    absent = math.log(1 + len(word_sets))
    return {word: frequencies.get(word, absent) for word in stems(question)}


def coverage(rarity: Mapping[str, float], word_sets: Sequence[set[str]]) -> Floats:
    """Share of the question's words in each text, rare words counting more; 0 when it has none."""
    total = sum(rarity.values()) or 1.0
    shares = [sum(weight for word, weight in rarity.items() if word in words) / total for words in word_sets]
    return np.array(shares, dtype=np.float32)


def preselect(candidates: Sequence[Candidate], coverages: Floats) -> list[int]:
    """Places of the candidates to encode: those with most of the question's words, in the better passages."""
    promise = [
        float(share) + 0.5 / (candidate.place + 1)
        for candidate, share in zip(candidates, coverages, strict=True)
    ]
    chosen: list[int] = []
    room = ENCODED_CHARS
    for at in sorted(range(len(candidates)), key=lambda at: -promise[at]):
        room -= len(candidates[at].text)
        if chosen and room < 0:
            break
        chosen.append(at)
    return sorted(chosen)


def token_weights(question: str, tokens: TokenVectors, rarity: Mapping[str, float]) -> Floats:
    """Weight of each of the question's tokens, summing to 1: the idf of the word it belongs to."""
    fill = FILL_WORD_WEIGHT * max(rarity.values(), default=1.0)
    weights = np.zeros(len(tokens.offsets), dtype=np.float32)
    for word in _WORD.finditer(question):
        known = [rarity[stem] for stem in stems(word.group()) if stem in rarity]
        inside = (tokens.offsets[:, 0] >= word.start()) & (tokens.offsets[:, 0] < word.end())
        weights[inside] = max(known, default=fill)
    total = float(weights.sum())
    return weights / total if total else np.full(len(weights), 1 / max(len(weights), 1), dtype=np.float32)


def best_matches(query: TokenVectors, document: TokenVectors) -> Floats:
    """For each token of the query its highest inner product with a token of the document."""
    if not len(document.vectors):
        return np.zeros(len(query.vectors), dtype=np.float32)
    return np.asarray((query.vectors @ document.vectors.T).max(axis=1), dtype=np.float32)


def relative_scores(passages: Sequence[Passage]) -> Floats:
    """Each passage's score against the best one's: 0 for the best, at least -LARGEST_PENALTY.

    Relative, since every retriever has its own scale.
    """
    scores = np.array([passage.score for passage in passages], dtype=np.float64)
    scale = float(np.abs(scores).max()) or 1.0
    relative = (scores - scores.max()) / scale
    return np.asarray(np.maximum(relative, -LARGEST_PENALTY), dtype=np.float32)
