"""How well each candidate sentence answers the question, and how sure one can be that any does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.generation.candidates import Candidate
from app.generation.words import inverse_frequencies, stems
from indexing.encoding.base import Encoder
from indexing.types import Floats, TokenVectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Candidates with one score each, their sentence vectors (n, dim), and a confidence in [0, 1]."""

    candidates: Sequence[Candidate]
    scores: Floats
    vectors: Floats
    confidence: float


def score(encoder: Encoder, question: str, candidates: Sequence[Candidate]) -> Scored:
    query = encoder.encode_queries([question], with_tokens=True)
    encoded = encoder.encode_documents([candidate.text for candidate in candidates], with_tokens=True)
    assert query.tokens is not None
    assert encoded.tokens is not None
    cosines = encoded.vectors @ query.vectors[0]
    late = np.array([max_sim(query.tokens[0], tokens) for tokens in encoded.tokens], dtype=np.float32)
    lexical = coverage(question, [candidate.text for candidate in candidates])
    scores = (0.4 * cosines + 0.3 * late + 0.3 * lexical).astype(np.float32)
    confidence = float(1 / (1 + np.exp(-12 * (float(scores.max()) - 0.42)))) if len(candidates) else 0.0
    return Scored(candidates=candidates, scores=scores, vectors=encoded.vectors, confidence=confidence)


def max_sim(query: TokenVectors, document: TokenVectors) -> float:
    """Mean over the query's tokens of their best inner product with a token of the document."""
    if not len(query.vectors) or not len(document.vectors):
        return 0.0
    return float((query.vectors @ document.vectors.T).max(axis=1).mean())


def coverage(question: str, texts: Sequence[str]) -> Floats:
    """Share of the question's words in each text, rare words counting more; 0 when it has none."""
    found = [set(stems(text)) for text in texts]
    frequencies = inverse_frequencies(found)
    absent = max(frequencies.values(), default=1.0)
    weights = {word: frequencies.get(word, absent) for word in set(stems(question))}
    total = sum(weights.values()) or 1.0
    return np.array(
        [sum(w for word, w in weights.items() if word in words) / total for words in found], np.float32
    )
