"""Citations: reading markers out of a stream of text, and numbering footnotes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.generation.answer import Citation
from retrievers.types import Passage

_NUMBER = r"\^?\s*\d{1,6}"
_INSIDE = (
    r"\s*(?:(?:passages?|sources?|documents?|docs?|refs?)\b\.?\s*#?\s*)?"
    rf"(?P<numbers>{_NUMBER}(?:\s*(?:[,;]|[-–—]|\band\b)\s*{_NUMBER})*)\s*"
)
_MARKER = re.compile(
    rf"\[{_INSIDE}\]|【{_INSIDE.replace('numbers', 'wide')}(?:†[^】\n]{{0,60}})?】", re.IGNORECASE
)
_MARKER_BEGUN = re.compile(r"[\[【][A-Za-z.#^\d,;\s–—-]{0,40}(?:†[^】\]\n]{0,60})?\Z")
_MARKER_CUT_OFF = re.compile(r"[\[【]\s*\^?\d[\d,;\s–-]*")
_WIDEST_RANGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """The numbers of one marker, as written: `[1, 3-4]` has 1, 3 and 4."""

    numbers: tuple[int, ...]


class MarkerReader:
    """Parts a stream into text and markers, wherever the stream is cut.

    Known are `[1]`, `[1, 2]`, `[1-3]`, `[^1]`, `【1】`, `【1†source】` and `[Passage 1]`. What only looks
    like the beginning of a marker is kept back until it is decided; other brackets pass as text.
    """

    def __init__(self) -> None:
        self._kept = ""

    def feed(self, text: str) -> Iterator[str | Marker]:
        """The pieces that are decided once `text` has come."""
        kept = self._kept + text
        begun = _MARKER_BEGUN.search(kept)
        cut = begun.start() if begun else len(kept)
        self._kept = kept[cut:]
        yield from _parts(kept[:cut])

    def close(self) -> Iterator[str | Marker]:
        """What was kept back: text, or a marker that was cut off and names nothing."""
        kept, self._kept = self._kept, ""
        if _MARKER_CUT_OFF.fullmatch(kept):
            yield Marker(numbers=())
        else:
            yield from _parts(kept)


def _parts(text: str) -> Iterator[str | Marker]:
    at = 0
    for found in _MARKER.finditer(text):
        if found.start() > at:
            yield text[at : found.start()]
        yield Marker(numbers=marker_numbers(found.group("numbers") or found.group("wide")))
        at = found.end()
    if at < len(text):
        yield text[at:]


def has_marker(text: str) -> bool:
    return _MARKER.search(text) is not None


def without_markers(text: str) -> str:
    """The text with the brackets of what would be read as a marker made round.

    >>> without_markers("as shown [3, 4] [sic]")
    'as shown (3, 4) [sic]'
    """
    return _MARKER.sub(lambda found: f"({found.group()[1:-1]})", text)


def marker_numbers(inside: str) -> tuple[int, ...]:
    """The numbers between a marker's brackets, each once, in order.

    >>> marker_numbers("1, 3-5")
    (1, 3, 4, 5)
    >>> marker_numbers("^2")
    (2,)
    >>> marker_numbers("3 - 1")  # no range: the two numbers
    (3, 1)
    """
    numbers: dict[int, None] = {}
    for item in re.split(r"[,;]|\band\b", inside, flags=re.IGNORECASE):
        ends = [int(digits) for digits in re.findall(r"\d+", item)]
        if len(ends) == 2 and 0 < ends[1] - ends[0] <= _WIDEST_RANGE:
            ends = list(range(ends[0], ends[1] + 1))
        numbers.update(dict.fromkeys(ends))
    return tuple(numbers)


class Footnotes:
    """Numbers the footnotes of one answer in order of first use, one for each span of a document.

    A span inside one that has a number takes that number: chunks may overlap, citations do not repeat.
    """

    def __init__(self) -> None:
        self._citations: list[Citation] = []

    @property
    def citations(self) -> tuple[Citation, ...]:
        return tuple(self._citations)

    def cite(self, passage: Passage, start: int, end: int) -> tuple[Citation, bool]:
        """The footnote to characters `[start, end)` of the passage's document, and whether it is new.

        Raises ValueError for a span that is empty or reaches outside the passage.
        """
        chunk = passage.chunk
        if not chunk.start <= start < end <= chunk.end:
            raise ValueError(f"characters {start} to {end} are not inside chunk {chunk.start} to {chunk.end}")
        for known in self._citations:
            if known.document_id == chunk.document_id and known.start <= start and end <= known.end:
                return known, False
        citation = Citation(
            n=len(self._citations) + 1,
            document_id=chunk.document_id,
            chunk_id=chunk.id,
            title=passage.title,
            source=passage.source,
            page=chunk.page,
            start=start,
            end=end,
            quote=chunk.text[start - chunk.start : end - chunk.start],
        )
        self._citations.append(citation)
        return citation, True
