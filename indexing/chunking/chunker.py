"""From a loaded text to the spans of its chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from indexing.chunking.packing import Packer
from indexing.chunking.sections import Section, common_path, fit_path, sections
from indexing.chunking.spec import ChunkerSpec
from indexing.chunking.tokens import CountTokens, TokenCounter
from indexing.chunking.units import BEHIND_HEADING, LONGEST_GAP, Units, count_units, section_spans
from indexing.long_text import Characters
from indexing.types import Block, LoadedText, TextSpan, contextual_text

SPANS_A_BATCH = 1024

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class _Part:
    """Units `[first, last)`: a section, or several that share chunks. Without a body it is a bare heading."""

    first: int
    last: int
    level: int
    apart: bool
    paths: list[tuple[str, ...]]
    has_body: bool


class Chunker:
    """Cuts texts at headings, records, paragraphs, rows and sentences, in this order of preference.

    A chunk with its headings (`contextual_text`) has at most `spec.max_tokens` tokens, two special ones
    included, so that the encoder cuts nothing. Safe to use from several threads.
    """

    def __init__(self, spec: ChunkerSpec, count_tokens: CountTokens) -> None:
        self.spec = spec
        self._count_tokens = count_tokens
        self._counter = TokenCounter(count_tokens)

    def split(
        self, loaded: LoadedText, title: str | None = None, progress: Progress | None = None
    ) -> list[TextSpan]:
        """Chunks in order of their start; `n_tokens` counts the headings too, but no special tokens.

        Every character that is not white space lies in a chunk; each chunk ends behind the one before.
        `progress` is told now and then how many characters of how many were looked at; what it raises ends
        the work.
        """
        units, parts = self._parts(loaded, title or loaded.title, progress or (lambda _done, _total: None))
        packer = Packer.of(units)
        additive = self._counter.additive
        spans: list[TextSpan] = []
        unsure: list[int] = []
        for part in _merged(parts, packer.costs, self.spec):
            path, path_tokens = fit_path(common_path(part.paths), self.spec.heading_tokens, self._count_one)
            room = self.spec.text_tokens - path_tokens
            for begin, end in packer.pack(part.first, part.last, room, self.spec.overlap_tokens):
                if not additive or packer.glued(begin, end):
                    unsure.append(len(spans))
                span = TextSpan(
                    start=units.starts[begin],
                    end=units.ends[end - 1],
                    heading_path=path,
                    n_tokens=path_tokens + packer.tokens[end] - packer.tokens[begin],
                )
                spans.append(span)
        return self._checked(loaded.text, spans, unsure) if unsure else spans

    def _parts(self, loaded: LoadedText, title: str | None, progress: Progress) -> tuple[Units, list[_Part]]:
        units = Units()
        parts: list[_Part] = []
        # Any unit fits beside the longest headings.
        max_cost = self.spec.text_tokens - self.spec.heading_tokens
        blocks = _BlockCursor(loaded.blocks)
        for section in sections(loaded, title):
            first = len(units)
            spans = section_spans(loaded.text, section, blocks.within(section))
            for done in count_units(loaded.text, spans, self._counter, max_cost, units):
                progress(done, len(loaded.text))
            if parts and not parts[-1].has_body and not section.apart and len(units) > first:
                units.cuts[first] = BEHIND_HEADING
            parts += _parts_of(section, units, first)
        return units, parts

    def _count_one(self, text: str) -> int:
        return self._counter.count([text])[0]

    def _checked(self, text: Characters, spans: list[TextSpan], unsure: Sequence[int]) -> list[TextSpan]:
        """The spans, the unsure ones counted in one piece, and cut in two where they prove too long."""
        counted: dict[int, list[TextSpan]] = {}
        for at in range(0, len(unsure), SPANS_A_BATCH):
            batch = unsure[at : at + SPANS_A_BATCH]
            counted.update(zip(batch, self._counted(text, [spans[index] for index in batch]), strict=True))
        checked: list[TextSpan] = []
        for index, span in enumerate(spans):
            for part in counted.get(index, [span]):
                # Half a span may be no more than its overlap with a neighbour.
                if checked and part.end <= checked[-1].end:
                    continue
                if checked and part.start <= checked[-1].start:
                    checked.pop()
                checked.append(part)
        return checked

    def _counted(self, text: Characters, spans: Sequence[TextSpan]) -> Iterator[list[TextSpan]]:
        texts = [contextual_text(span.heading_path, text[span.start : span.end]) for span in spans]
        for span, n_tokens in zip(spans, self._counter.count(texts), strict=True):
            if n_tokens <= self.spec.text_tokens or span.end - span.start == 1:
                yield [replace(span, n_tokens=n_tokens)]
            else:
                yield [part for half in self._counted(text, _halves(text, span)) for part in half]


class _BlockCursor:
    """Gives each section the blocks that reach into it; sections come in order, so blocks are passed once."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks
        self._next = 0

    def within(self, section: Section) -> list[Block]:
        while self._next < len(self._blocks) and self._blocks[self._next].end <= section.start:
            self._next += 1
        found = []
        for position in range(self._next, len(self._blocks)):
            block = self._blocks[position]
            if block.start >= section.end:
                break
            found.append(block)
        return found


def _parts_of(section: Section, units: Units, first: int) -> Iterator[_Part]:
    """The section as one part, or several where very much white space lies in it."""
    last = len(units)
    gaps = [at for at in range(first + 1, last) if units.starts[at] - units.ends[at - 1] > LONGEST_GAP]
    for begin, end in pairwise([first, *gaps, last]):
        if begin < end:
            yield _Part(
                first=begin,
                last=end,
                level=section.level,
                apart=section.apart or begin > first,
                paths=[section.path],
                has_body=units.ends[end - 1] > section.body,
            )


def _merged(parts: Iterable[_Part], costs: Sequence[int], spec: ChunkerSpec) -> Iterator[_Part]:
    """The parts, where neighbours that are too small for a chunk of their own are one.

    A heading with nothing under it joins what follows. Two parts that are both small join, whatever their
    levels, and so does a small one with its first subsection.
    """
    current: _Part | None = None
    for part in parts:
        if current is not None and _joins(current, part, costs, spec):
            current = _Part(
                first=current.first,
                last=part.last,
                level=min(current.level, part.level) if current.has_body else part.level,
                apart=current.apart,
                paths=[*current.paths, *part.paths] if current.has_body else part.paths,
                has_body=part.has_body,
            )
        else:
            if current is not None:
                yield current
            current = part
    if current is not None:
        yield current


def _joins(current: _Part, part: _Part, costs: Sequence[int], spec: ChunkerSpec) -> bool:
    if part.apart or (current.has_body and not part.has_body):
        return False
    size, added = costs[current.last] - costs[current.first], costs[part.last] - costs[part.first]
    if not current.has_body:
        return size <= spec.text_tokens // 2
    fits = size + added <= spec.text_tokens - spec.heading_tokens
    return fits and size < spec.min_tokens and (added < spec.min_tokens or part.level > current.level)


def _halves(text: Characters, span: TextSpan) -> list[TextSpan]:
    """The span cut in two at the space nearest to its middle, or in the middle of its one word."""
    middle = (span.start + span.end) // 2
    first_half = text[span.start : middle]
    before = max(first_half.rfind(" "), first_half.rfind("\n"))
    cut = span.start + before if before > 0 else middle
    halves = []
    for start, end in ((span.start, cut), (cut, span.end)):
        part = text[start:end]
        start, end = start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())
        if start < end:
            halves.append(replace(span, start=start, end=end))
    return halves
