"""The sentences of the passages that an answer may quote."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from indexing.sentences import split_sentences
from indexing.types import DocumentId
from retrievers.types import Passage

_WORD = re.compile(r"\w+")
_WIDE = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af]")
_FENCE = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"[-*+•‣◦–]\s|\(?\d{1,3}[.)]\s")
_FIELD = re.compile(r"^:?[A-Za-z][\w-]{0,30}:\s", re.MULTILINE)
_ENDED = re.compile(r"[.!?。！？…:;][\"'”’»)\]]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A sentence of a passage: characters `[start, end)` of the document's canonical text.

    `place` is the passage's place among the passages, from 0; `ordinal` the sentence's among its passage's.
    """

    passage: Passage
    place: int
    ordinal: int
    start: int
    end: int
    text: str

    @property
    def is_row(self) -> bool:
        """A row of a table: it may hold the answer, but does not read like one."""
        return self.text.startswith("|") or " | " in self.text


def candidates(passages: Sequence[Passage]) -> list[Candidate]:
    """Every quotable sentence once, in the order of the passages and of their text.

    Headings and fragments are left out where their passage has whole sentences. Where passages overlap, the
    longer version of a sentence stays: a chunk border may have cut the other.
    """
    found = [candidate for place, passage in enumerate(passages) for candidate in _of_passage(passage, place)]
    by_document: dict[DocumentId, list[Candidate]] = defaultdict(list)
    for candidate in sorted(found, key=lambda candidate: candidate.start - candidate.end):
        kept = by_document[candidate.passage.chunk.document_id]
        if not any(other.start <= candidate.start and candidate.end <= other.end for other in kept):
            kept.append(candidate)
    return sorted(
        (candidate for kept in by_document.values() for candidate in kept),
        key=lambda candidate: (candidate.place, candidate.start),
    )


def _of_passage(passage: Passage, place: int) -> list[Candidate]:
    text, shift = passage.chunk.text, passage.chunk.start
    spans = split_sentences(text)
    fenced = [match.span() for match in _FENCE.finditer(text)]
    whole = [
        (start, end)
        for start, end in spans
        if is_sentence(text[start:end])
        and not _stands_alone(text, start, end)
        and not any(first <= start < last for first, last in fenced)
    ]
    return [
        Candidate(
            passage=passage,
            place=place,
            ordinal=ordinal,
            start=start + shift,
            end=end + shift,
            text=text[start:end],
        )
        for ordinal, (start, end) in enumerate(whole or spans)
    ]


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a span without a full stop is a paragraph of its own, as headings are; list items are not."""
    before, after = text[:start], text[end:]
    return (
        _ENDED.search(text, start, end) is None
        and " | " not in text[start:end]
        and _ITEM.match(text, start) is None
        and (not before.strip() or before.endswith("\n"))
        and (not after.strip() or after.startswith("\n"))
    )


def is_sentence(text: str) -> bool:
    """Whether a span reads as a sentence and not as a heading or a fragment.

    >>> is_sentence("It rained."), is_sentence("Chapter 2"), is_sentence("Water boils at 100 degrees")
    (True, False, True)
    >>> is_sentence("# How to make a pot of tea")
    False
    """
    if text.startswith("#") or len(_FIELD.findall(text)) > 1:
        return False
    n_words = len(_WORD.findall(text)) + len(_WIDE.findall(text))
    return n_words >= 5 or (n_words >= 2 and _ENDED.search(text) is not None)
