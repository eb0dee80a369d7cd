"""Finding the words of a passage that a sentence rests on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.generation.candidates import Candidate, candidates
from app.generation.verification import figures
from app.generation.words import stems
from indexing.encoding.base import Encoder
from indexing.types import Floats
from retrievers.types import Passage

WORTH_A_SECOND_SENTENCE = 0.25
"""The share of the claim's words that a neighbouring sentence must add to be quoted too."""

_COMPARED = 6


class SpanFinder:
    """Chooses the sentence of a passage, or two in a row, that carry a claim best."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def find(self, claim: str, passage: Passage) -> tuple[int, int]:
        """Characters `[start, end)` of the passage's document, inside the passage.

        Of the sentences with most of the claim's words, the one with most words and closest meaning; with
        the one beside it where that adds words of the claim. A passage without sentences is taken whole.
        """
        sentences = candidates([passage])
        if not sentences:
            return passage.chunk.start, passage.chunk.end
        words = _words(claim)
        found = [words & _words(sentence.text) for sentence in sentences]
        shares = np.array([len(some) / max(len(words), 1) for some in found], dtype=np.float32)
        best = self._best(claim, sentences, shares)
        first = last = best
        for beside in (best - 1, best + 1):
            if 0 <= beside < len(sentences) and first == last:
                added = len(found[beside] - found[best]) / max(len(words), 1)
                if added >= WORTH_A_SECOND_SENTENCE:
                    first, last = sorted((best, beside))
        return sentences[first].start, sentences[last].end

    def _best(self, claim: str, sentences: Sequence[Candidate], shares: Floats) -> int:
        compared = np.argsort(-shares, kind="stable")[:_COMPARED]
        if len(compared) == 1:
            return int(compared[0])
        vectors = self._encoder.encode_documents([claim, *(sentences[at].text for at in compared)]).vectors
        likeness = shares[compared] + vectors[1:] @ vectors[0]
        return int(compared[int(likeness.argmax())])


def _words(text: str) -> set[str]:
    """Stems, and figures once more: a claim with a figure rests on the sentence that has it."""
    return {*stems(text), *(f"figure {figure}" for figure in figures(text))}
