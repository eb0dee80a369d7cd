"""Cutting a stream of text and markers into sentences, each followed by the markers that belong to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from indexing.sentences import split_sentences

# White space and the mark of a list item or a heading: not part of a sentence.
_LEAD = re.compile(r"\s*(?:(?:[-*+•–]|#{1,6}|\(?\d{1,3}[.)])\s+)?")
_LINE_END = re.compile(r"\n(?=\s*\S)")
_PERHAPS_ENDED = re.compile(r"[.!?…][\"'”’»)\]*_]*(?=\s+\S*\Z)")
_WHOLE_WORD = re.compile(r"\S\s")
_WIDE_STOPS = "。！？｡"
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Text that can be sent on."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceEnded:
    """The last `length` characters written are a sentence, which is complete; the numbers of its markers."""

    length: int
    numbers: tuple[int, ...]


class ClaimReader:
    """Moves markers to the end of their sentence, and says where sentences end.

    A marker belongs to the sentence it stands in, or behind when only white space is between. Text is
    passed on at once, except white space and the first word behind what may be the end of a sentence.
    """

    def __init__(self) -> None:
        self._open = ""  # since the end of the last sentence
        self._sent = 0  # characters of it that were passed on
        self._markers: list[tuple[int, tuple[int, ...]]] = []  # with their place in it
        self._behind_marker = False

    def text(self, text: str) -> Iterator[Written | SentenceEnded]:
        if not text:
            return
        if self._behind_marker:
            self._open, text = _joined(self._open, text)
            self._behind_marker = not text.strip(" \t")
        self._open += text
        yield from self._sentences(final=False)
        yield from self._write(self._certain())

    def marker(self, numbers: tuple[int, ...]) -> None:
        self._markers.append((len(self._open), numbers))
        self._behind_marker = True

    def close(self) -> Iterator[Written | SentenceEnded]:
        yield from self._sentences(final=True)

    def _sentences(self, *, final: bool) -> Iterator[Written | SentenceEnded]:
        while (end := self._first_end(final=final)) is not None:
            begin = _begin(self._open)
            yield from self._write(end)
            if _WORD.search(self._open, begin, end):
                yield SentenceEnded(length=end - begin, numbers=self._take_markers(end))
            self._markers = [(max(place - end, 0), numbers) for place, numbers in self._markers]
            self._open, self._sent = self._open[end:], 0

    def _first_end(self, *, final: bool) -> int | None:
        """Where the first sentence ends, once enough has come to know."""
        text, begin = self._open, _begin(self._open)
        if begin >= len(text):
            return None
        line = _LINE_END.search(text, begin)
        limit = line.start() if line else len(text)
        spans = split_sentences(text[begin:limit], begin)
        if len(spans) > 1:
            end, following = spans[0][1], spans[1][0]
            decided = final or line or text[end - 1] in _WIDE_STOPS or _WHOLE_WORD.search(text, following)
            return end if decided else None
        return len(text[:limit].rstrip()) if line or final else None

    def _certain(self) -> int:
        """How much may be passed on: not what may belong behind a marker that is still to come."""
        perhaps = _PERHAPS_ENDED.search(self._open, _begin(self._open))
        return perhaps.end() if perhaps else len(self._open.rstrip())

    def _write(self, end: int) -> Iterator[Written]:
        if end > self._sent:
            yield Written(text=self._open[self._sent : end])
            self._sent = end

    def _take_markers(self, end: int) -> tuple[int, ...]:
        behind = len(self._open) - len(self._open[end:].lstrip())
        taken = [numbers for place, numbers in self._markers if place <= behind]
        self._markers = [(place, numbers) for place, numbers in self._markers if place > behind]
        return tuple(dict.fromkeys(number for numbers in taken for number in numbers))


def _begin(text: str) -> int:
    lead = _LEAD.match(text)
    return lead.end() if lead else 0


def _joined(before: str, after: str) -> tuple[str, str]:
    """Both sides of a marker that was taken out, with the white space that reads well between them.

    >>> _joined("Cats purr ", " and sleep")
    ('Cats purr ', 'and sleep')
    >>> _joined("Cats purr ", ". Dogs")
    ('Cats purr', '. Dogs')
    >>> _joined("Cats purr.", "Dogs")
    ('Cats purr.', ' Dogs')
    """
    rest = after.lstrip(" \t")
    if rest and rest[0] in "\n.,;:!?…)。！？":
        return before.rstrip(" \t"), rest
    if rest != after:
        return before, rest if before[-1:].isspace() else " " + rest
    if after[0].isalnum() and before[-1:] in tuple(".!?"):
        return before, " " + after
    return before, after
