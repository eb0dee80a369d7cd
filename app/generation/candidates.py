"""The sentences of the passages that an answer may quote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.generation.sentences import split_sentences
from retrievers.types import Passage

_WORD = re.compile(r"\w+")
_WIDE = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af]")
_ENDED = re.compile(r"[.!?。！？…:;][\"'”’»)\]]*\Z")
_LONGEST_SENTENCE = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A sentence of a passage: characters `[start, end)` of the document's canonical text.

    `rank` is the passage's place among the passages, from 0; `ordinal` the sentence's place in its passage.
    """

    passage: Passage
    rank: int
    ordinal: int
    start: int
    end: int
    text: str


def candidates(passages: Sequence[Passage]) -> list[Candidate]:
    """Every quotable sentence once, in the order of the passages and of their text.

    Headings and fragments are left out where their passage has whole sentences. Where passages overlap, the
    longer version of a sentence stays: a chunk border may have cut the other.
    """
    found = [
        candidate for rank, passage in enumerate(passages) for candidate in _of_passage(passage, rank=rank)
    ]
    return [candidate for at, candidate in enumerate(found) if not _is_repeated(candidate, at, found)]


def _of_passage(passage: Passage, *, rank: int) -> list[Candidate]:
    text, shift = passage.chunk.text, passage.chunk.start
    spans = [span for sentence in split_sentences(text) for span in _lines_of_long(text, *sentence)]
    whole = [span for span in spans if is_sentence(text[span[0] : span[1]])]
    return [
        Candidate(
            passage=passage,
            rank=rank,
            ordinal=ordinal,
            start=start + shift,
            end=end + shift,
            text=text[start:end],
        )
        for ordinal, (start, end) in enumerate(whole or spans)
    ]


def is_sentence(text: str) -> bool:
    """Whether a span reads as a sentence and not as a heading or a fragment.

    >>> is_sentence("It rained."), is_sentence("Chapter 2"), is_sentence("Water boils at 100 degrees")
    (True, False, True)
    """
    n_words = len(_WORD.findall(text)) + len(_WIDE.findall(text))
    return n_words >= 5 or (n_words >= 2 and _ENDED.search(text) is not None)


def _lines_of_long(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """A span with no sentence end in it for long is a table or a list: then each of its lines."""
    if end - start <= _LONGEST_SENTENCE:
        return [(start, end)]
    lines = [(m.start(), m.end()) for m in re.finditer(r"\S[^\n]*(?<=\S)", text[start:end])]
    return [(start + a, start + b) for a, b in lines]


def _is_repeated(candidate: Candidate, at: int, others: Sequence[Candidate]) -> bool:
    for place, other in enumerate(others):
        if (
            place != at
            and other.passage.chunk.document_id == candidate.passage.chunk.document_id
            and other.start <= candidate.start
            and candidate.end <= other.end
            and (other.end - other.start > candidate.end - candidate.start or place < at)
        ):
            return True
    return False
