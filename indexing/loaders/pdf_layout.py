"""Placed pieces of text to paragraphs and headings.

A PDF says where characters stand and nothing else. Lines are told from fragments by their height, paragraphs
from lines by gaps, indents, and whether the next word would have fitted, headings by size and weight.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from indexing.loaders.canonical import squeeze

COLUMN_MARK = " | "
COLUMN_GAP = 1.6  # the least distance between columns, as a multiple of the characters' height
HYPHEN = "\ufffe"  # ends a fragment whose last word goes on in the next

_MARGIN_SHARE = 0.12  # of the page's height, where running headers and footers stand
_MIN_REPEATS = 3
_REPEAT_SHARE = 0.3
_HEADING_SCALE = 1.15
_MAX_HEADING_CHARS = 200
_MAX_BOLD_HEADING_CHARS = 90
_MAX_HEADING_SHARE = 0.3
_MAX_LEVELS = 6
_DIGITS = re.compile(r"\d+")
_ITEM = re.compile(r"(?:[•◦▪‣●○■□–—·∙\-*]|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,5})[.)])\s+\S")
_SENTENCE_END = (".", "!", "?", ":", "”", '"', "。", "؟")
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2})*)\.?\s+[^\W\d]")
_CONTENTS_ENTRY = re.compile(r" … (?:\d+|[ivxlc]+)$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A piece of one line; places in points, from the lower left corner of the page."""

    text: str
    left: float
    right: float
    bottom: float
    top: float
    size: float
    is_bold: bool = False
    is_turned: bool = False

    @property
    def is_row(self) -> bool:
        """The line has columns."""
        return COLUMN_MARK in self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """What is written between two blank lines."""

    text: str
    heading_level: int | None = None
    kind: Literal["list", "table"] | None = None


def compose(
    pages: list[list[Fragment]], heights: list[float], outline: Mapping[tuple[int, str], int]
) -> Iterator[list[Paragraph]]:
    """The paragraphs of each page; `outline` gives levels by page index and case-folded title."""
    lines = [_join_fragments(_turned_last(page)) for page in pages]
    lines = _without_running_lines(lines, heights)
    words = Counter(word.lower() for page in lines for line in page for word in _WORD.findall(line.text))
    headings = _Headings(lines, outline)
    for number, page in enumerate(lines):
        yield list(_paragraphs(page, number, headings, words))


def _turned_last(fragments: list[Fragment]) -> list[Fragment]:
    """Stamps along the edge of a page stand behind its text, unless the whole page is turned."""
    turned = [fragment for fragment in fragments if fragment.is_turned]
    if len(turned) * 2 > len(fragments):
        return fragments
    return [fragment for fragment in fragments if not fragment.is_turned] + turned


def _join_fragments(fragments: list[Fragment]) -> list[Fragment]:
    """Whole lines: raised, lowered and tabulated pieces join the line they stand on."""
    lines: list[Fragment] = []
    for fragment in fragments:
        if lines and _same_line(lines[-1], fragment):
            lines[-1] = _joined(lines[-1], fragment)
        else:
            lines.append(fragment)
    return lines


def _same_line(line: Fragment, fragment: Fragment) -> bool:
    overlap = min(line.top, fragment.top) - max(line.bottom, fragment.bottom)
    height = min(line.top - line.bottom, fragment.top - fragment.bottom)
    follows = fragment.left >= line.right - 0.3 * fragment.size
    follows = follows and line.is_turned == fragment.is_turned
    return follows and overlap > 0.5 * height and not line.text.endswith(HYPHEN)


def _joined(line: Fragment, fragment: Fragment) -> Fragment:
    main = line if line.size >= fragment.size else fragment
    gap = fragment.left - line.right
    is_raised = fragment.bottom > line.bottom + 0.2 * line.size
    separator = " " if gap > 0.15 * main.size or (is_raised and fragment.text[0].isalnum()) else ""
    if gap > COLUMN_GAP * 1.2 * main.size:
        separator = COLUMN_MARK
    return replace(
        main,
        text=line.text + separator + fragment.text,
        left=min(line.left, fragment.left),
        right=max(line.right, fragment.right),
        is_bold=line.is_bold and fragment.is_bold,
    )


def _without_running_lines(pages: list[list[Fragment]], heights: list[float]) -> list[list[Fragment]]:
    """The pages without the headers, footers and page numbers that come back on many of them."""
    counts = Counter(
        key
        for page, height in zip(pages, heights, strict=True)
        for key in {_running_key(line) for line in page if _in_margin(line, height)}
    )
    least = max(_MIN_REPEATS, int(_REPEAT_SHARE * len(pages)))
    running = {key for key, count in counts.items() if count >= least}
    kept = []
    for page, height in zip(pages, heights, strict=True):
        body = [line for line in page if not (_in_margin(line, height) and _running_key(line) in running)]
        kept.append(body or page)  # a page that is nothing else keeps it
    return kept


def _running_key(line: Fragment) -> str:
    return _DIGITS.sub("#", squeeze(line.text).lower())


def _in_margin(line: Fragment, height: float) -> bool:
    return line.bottom > height * (1 - _MARGIN_SHARE) or line.top < height * _MARGIN_SHARE


class _Headings:
    """Which lines of a document are headings, and of what level."""

    def __init__(self, pages: list[list[Fragment]], outline: Mapping[tuple[int, str], int]) -> None:
        self._outline = outline
        sizes: Counter[float] = Counter()
        for page in pages:
            for line in page:
                sizes[_rounded(line.size)] += len(line.text)
        self.body_size = sizes.most_common(1)[0][0] if sizes else 0.0
        n_lines = sum(map(len, pages))
        large = [line for page in pages for line in page if self._is_large(line)]
        # Text recognised on a scan has a size of its own on every line; such sizes mean nothing.
        self._by_size = len(large) <= _MAX_HEADING_SHARE * n_lines or n_lines < 5
        self._ranks = _clusters({_rounded(line.size) for line in large})
        bold = sum(line.is_bold for page in pages for line in page)
        self._by_weight = bold <= _MAX_HEADING_SHARE * n_lines

    def level(self, lines: list[Fragment], page: int) -> int | None:
        """The level of a paragraph made of these lines, None for running text."""
        text = squeeze(" ".join(line.text.rstrip(HYPHEN) for line in lines))
        stated = self._outline.get((page, text.casefold()))
        if stated is None and (numbered := _NUMBERED.match(text)):
            stated = self._outline.get((page, text[numbered.end(1) :].lstrip(". ").casefold()))
        if stated is not None:
            return stated
        if any(line.is_row or line.is_turned for line in lines):
            return None
        if len(text) > _MAX_HEADING_CHARS or sum(map(str.isalpha, text)) < max(3, 0.4 * len(text)):
            return None
        if self._by_size and all(self._is_large(line) for line in lines):
            rank = sum(size > lines[0].size * 1.04 for size in self._ranks)
            return min(rank + 1, _MAX_LEVELS)
        is_short = len(lines) <= 2 and len(text) <= _MAX_BOLD_HEADING_CHARS and len(text.split()) <= 14
        if self._by_weight and is_short and all(line.is_bold for line in lines) and text[-1] not in ".,;:":
            numbered = _NUMBERED.match(text)
            return min(len(self._ranks) + (numbered[1].count(".") + 1 if numbered else 1), 6)
        return None

    def _is_large(self, line: Fragment) -> bool:
        return line.size >= _HEADING_SCALE * self.body_size


def _clusters(sizes: set[float]) -> list[float]:
    """The sizes, largest first, without those that hardly differ from a larger one."""
    kept: list[float] = []
    for size in sorted(sizes, reverse=True):
        if not kept or size < 0.93 * kept[-1]:
            kept.append(size)
    return kept


def _rounded(size: float) -> float:
    return round(size * 2) / 2


def _paragraphs(
    lines: list[Fragment], page: int, headings: _Headings, words: Mapping[str, int]
) -> Iterator[Paragraph]:
    pitch = _usual_pitch(lines)
    group: list[Fragment] = []
    for line in lines:
        if group and _parts(group, line, pitch):
            yield from _written(group, page, headings, words)
            group = []
        group.append(line)
    if group:
        yield from _written(group, page, headings, words)


def _usual_pitch(lines: list[Fragment]) -> float:
    """The distance between the lines of a paragraph, as a multiple of their size."""
    pitches = [
        (above.bottom - below.bottom) / above.size
        for above, below in itertools.pairwise(lines)
        if 0.5 < (above.bottom - below.bottom) / above.size < 3
        and abs(above.size - below.size) < 0.1 * above.size
    ]
    return median(pitches) if pitches else 1.2


def _parts(group: list[Fragment], line: Fragment, pitch: float) -> bool:
    """A new paragraph begins with `line`."""
    last = group[-1]
    if last.text.endswith(HYPHEN):
        return False
    if last.is_turned != line.is_turned or last.is_row != line.is_row:
        return True
    step = (last.bottom - line.bottom) / last.size
    if line.is_row:
        return not -0.3 < step < 2 * pitch
    # A line that begins with a bullet has the bullet's size, so what goes on from it may differ more.
    unlike = 0.25 if _goes_on(last, line) else 0.12
    if abs(last.size - line.size) > unlike * max(last.size, line.size):
        return True
    if last.is_bold != line.is_bold and (group[0].is_bold == last.is_bold) and _starts_anew(last, line):
        return True
    if step < -0.3:  # further up: the next column
        return not _goes_on(last, line)
    if step > 1.3 * pitch:
        # Loosely set lines: a sentence that goes on in lower case is one paragraph all the same.
        return not (step < 2.2 * pitch and _goes_on(last, line))
    is_indented = line.left > min(member.left for member in group) + 0.8 * line.size
    overlaps = line.left < last.right and last.left < line.right
    if is_indented and overlaps and len(group) > 1 and last.text.endswith(_SENTENCE_END):
        return not _ITEM.match(group[0].text)
    return False


def _starts_anew(last: Fragment, line: Fragment) -> bool:
    """The change of weight between the lines is one between a heading and its text, not inside a sentence."""
    return not last.text.endswith(",") and not line.text[0].islower()


def _goes_on(last: Fragment, line: Fragment) -> bool:
    return not last.text.endswith(_SENTENCE_END) and line.text[0].islower()


def _written(
    group: list[Fragment], page: int, headings: _Headings, words: Mapping[str, int]
) -> Iterator[Paragraph]:
    level = headings.level(group, page)
    if level is not None:
        yield Paragraph(text=squeeze(_reflowed(group, words).replace("\n", " ")), heading_level=level)
        return
    lead = headings.level(group[:1], page) if len(group) > 1 and _stands_alone(group) else None
    if lead is not None:
        yield Paragraph(text=group[0].text, heading_level=lead)
        group = group[1:]
    if group[0].is_row:
        yield Paragraph(text="\n".join(line.text for line in group), kind="table" if len(group) > 1 else None)
        return
    n_items = sum(1 for line in group if _ITEM.match(line.text))
    yield Paragraph(text=_reflowed(group, words), kind="list" if n_items > 1 else None)


def _stands_alone(group: list[Fragment]) -> bool:
    """The first line is not the beginning of the sentence on the second."""
    first, second = group[:2]
    return (
        not first.text.endswith(HYPHEN) and not second.text[0].islower() and _was_broken_on_purpose(group, 0)
    )


def _reflowed(group: list[Fragment], words: Mapping[str, int]) -> str:
    """The lines as one text: a line end becomes a space where the next word had no room, else it stays."""
    text = ""
    for position, line in enumerate(group):
        piece = line.text
        if not text:
            text = piece
        elif text.endswith(HYPHEN):
            text = _rejoined(text[:-1], piece, words)
        elif _ITEM.match(piece) or _was_broken_on_purpose(group, position - 1):
            text += "\n" + piece
        elif text.endswith("-") and piece[0].islower() and text[-2:-1].isalpha():
            text = _rejoined(text[:-1], piece, words)
        else:
            text += " " + piece
    return text.removesuffix(HYPHEN)


def _was_broken_on_purpose(group: list[Fragment], position: int) -> bool:
    """The first word of the next line would have fitted on this one."""
    line, following = group[position], group[position + 1]
    if following.bottom > line.bottom + 0.3 * line.size:
        return False  # the next column
    if _CONTENTS_ENTRY.search(line.text):
        return True
    near = group[max(0, position - 3) : position + 5]
    right = max(member.right for member in near)
    first_word = following.text.split(" ", 1)[0]
    width = (following.right - following.left) / max(1, len(following.text)) * (len(first_word) + 1)
    return line.right + 1.3 * width < right


def _rejoined(before: str, after: str, words: Mapping[str, int]) -> str:
    """A word broken over two lines, with its hyphen where the document writes it so elsewhere."""
    head = _WORD.findall(before)[-1:] or [""]
    tail = _WORD.match(after)
    if tail is None or not tail[0][0].islower():
        return f"{before}-{after}"
    hyphenated, plain = (f"{head[0]}{mark}{tail[0]}".lower() for mark in ("-", ""))
    return f"{before}-{after}" if words.get(hyphenated, 0) > words.get(plain, 0) else before + after
