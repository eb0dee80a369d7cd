"""Units: the pieces that a chunk is put together from, and how well a text may be cut before each."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from indexing.chunking.sections import Section
from indexing.chunking.tokens import TokenCounter
from indexing.long_text import Characters
from indexing.sentences import split_sentences
from indexing.types import Block

# How bad it is to begin a chunk here; on the scale of the share by which a chunk misses its size.
PARAGRAPH, LINE, SENTENCE, CLAUSE, WORD, BEHIND_HEADING = 0.0, 0.2, 0.3, 0.8, 1.0, 5.0
_INSIDE = {"table": 0.3, "code": 0.3, "list": 0.1, "record": 0.0}

CHARS_PER_TOKEN = 12
"""A text costs at least a token for so many characters: many tokenizers give one for a long unknown word."""

LONGEST_GAP = 200
"""More characters of white space than this always part two chunks."""

STRETCH_CHARS = 1 << 20
LONGEST_STRETCH = 4 * STRETCH_CHARS
UNITS_A_BATCH = 4096

_LINE = re.compile(r"\S[^\n]*")
_WORD = re.compile(r"\S+")
_BLANK_LINE = re.compile(r"\n[ \t]*+\n")
_LINE_END = re.compile(r"\n")
_GAP = re.compile(r"\s")


@dataclass(slots=True)
class Units:
    """Parallel columns: characters `[start, end)`, tokens, cost, and how bad a cut before the unit is.

    The cost is what is packed: tokens, but never less than the characters allow for. A text of 200 million
    characters has millions of units, and 32 bits hold its every place.
    """

    starts: array[int] = field(default_factory=lambda: array("i"))
    ends: array[int] = field(default_factory=lambda: array("i"))
    tokens: array[int] = field(default_factory=lambda: array("i"))
    costs: array[int] = field(default_factory=lambda: array("i"))
    cuts: array[float] = field(default_factory=lambda: array("d"))

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, start: int, end: int, tokens: int, cut: float) -> None:
        self.starts.append(start)
        self.ends.append(end)
        self.tokens.append(tokens)
        self.costs.append(cost(tokens, end - start))
        self.cuts.append(cut)


def cost(tokens: int, n_chars: int) -> int:
    return max(tokens, -(-n_chars // CHARS_PER_TOKEN))


def section_spans(
    text: Characters, section: Section, blocks: Iterable[Block]
) -> Iterator[tuple[int, int, float]]:
    """Spans of a section's sentences, rows and lines, each with how bad a cut before it is."""
    before: int | None = None
    for start, end, inside in _pieces(text, section, blocks):
        if before is None or before <= section.body <= start:
            cut = PARAGRAPH if before is None else BEHIND_HEADING
        else:
            cut = _cut_of_gap(text[before:start]) + inside
        yield start, end, cut
        before = end


def _cut_of_gap(gap: str) -> float:
    n_lines = gap.count("\n")
    return SENTENCE if n_lines == 0 else LINE if n_lines == 1 else PARAGRAPH


def _pieces(text: Characters, section: Section, blocks: Iterable[Block]) -> Iterator[tuple[int, int, float]]:
    """Spans with what a cut costs more inside the block they continue."""
    yield from _lines(text, section.start, section.body, 0.0)
    at = section.body
    for block in blocks:
        start, end = max(block.start, at), min(block.end, section.end)
        if start >= end:
            continue
        yield from _prose(text, at, start, 0.0)
        pieces = _lines if block.kind in ("table", "code") else _prose
        inside = 0.0
        for first, last, _ in pieces(text, start, end, 0.0):
            yield first, last, inside
            inside = _INSIDE[block.kind]
        at = end
    yield from _prose(text, at, section.end, 0.0)


def _lines(text: Characters, start: int, end: int, inside: float) -> Iterator[tuple[int, int, float]]:
    for first, piece in _stretches(text, start, end, _LINE_END):
        for line in _LINE.finditer(piece):
            yield first + line.start(), first + line.start() + len(line[0].rstrip()), inside


def _prose(text: Characters, start: int, end: int, inside: float) -> Iterator[tuple[int, int, float]]:
    for begin, piece in _stretches(text, start, end, _BLANK_LINE):
        for first, last in split_sentences(piece, begin):
            yield first, last, inside


def _stretches(text: Characters, start: int, end: int, border: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """A long text in stretches, so that its pieces are never all in memory: each with where it begins.

    A stretch ends behind the first border that comes after `STRETCH_CHARS`; at worst between two words, or
    anywhere.
    """
    while end - start > STRETCH_CHARS:
        piece = text[start : min(start + LONGEST_STRETCH, end)]
        for pattern in (border, _LINE_END, _GAP):
            found = pattern.search(piece, STRETCH_CHARS)
            if found is not None or start + len(piece) == end:
                break
        if found is not None:
            piece = piece[: found.end()]
        yield start, piece
        start += len(piece)
    if start < end:
        yield start, text[start:end]


def count_units(
    text: Characters,
    spans: Iterator[tuple[int, int, float]],
    counter: TokenCounter,
    max_cost: int,
    units: Units,
) -> Iterator[int]:
    """Adds the spans with their tokens; one above `max_cost` is cut between words, at worst inside one.

    Gives now and then the place in the text up to which that was done.
    """
    while batch := list(islice(spans, UNITS_A_BATCH)):
        counts = counter.count([text[start:end] for start, end, _ in batch])
        for (start, end, cut), tokens in zip(batch, counts, strict=True):
            if cost(tokens, end - start) <= max_cost:
                units.add(start, end, tokens, cut)
            else:
                _add_parts(text, start, end, cut, counter, max_cost, units)
        yield batch[-1][1]


def _add_parts(
    text: Characters, start: int, end: int, cut: float, counter: TokenCounter, max_cost: int, units: Units
) -> None:
    # Small parts, so that packing has a choice; it prefers any other cut.
    part_cost = max(max_cost // 4, 1)
    words = [(start + word.start(), start + word.end()) for word in _WORD.finditer(text[start:end])]
    counts = counter.count([text[first:last] for first, last in words])
    pieces = [
        piece
        for (first, last), tokens in zip(words, counts, strict=True)
        for piece in _word_pieces(text, first, last, tokens, counter, part_cost)
    ]
    begin = stop = start
    part_tokens = 0
    for first, last, tokens in pieces:
        if stop > begin and cost(part_tokens + tokens, last - begin) > part_cost:
            units.add(begin, stop, part_tokens, cut)
            cut = CLAUSE if text[stop - 1 : stop] in ",;:.!?)" else WORD
            begin, part_tokens = first, 0
        part_tokens += tokens
        stop = last
    units.add(begin, stop, part_tokens, cut)


def _word_pieces(
    text: Characters, start: int, end: int, tokens: int, counter: TokenCounter, max_cost: int
) -> Sequence[tuple[int, int, int]]:
    """A word as it is, or cut into equal runs of characters that are small enough."""
    if cost(tokens, end - start) <= max_cost or end - start == 1:
        return [(start, end, tokens)]
    size = max((end - start) // -(-cost(tokens, end - start) // max_cost), 1)
    runs = [(first, min(first + size, end)) for first in range(start, end, size)]
    counts = counter.count([text[first:last] for first, last in runs])
    return [
        piece
        for (first, last), count in zip(runs, counts, strict=True)
        for piece in _word_pieces(text, first, last, count, counter, max_cost)
    ]
