"""A text that is too long to be held as one string."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

PART_CHARS = 1 << 20
"""A text of more characters is held in parts of so many."""

_LONGEST_CHARACTER = 4  # bytes in UTF-8


class Characters(Protocol):
    """What a text is read by: a `str`, or a `LongText`."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> str: ...


class LongText:
    """Characters held as UTF-8 in parts: a byte for most, where one emoji makes a string take four for each.

    Slices are strings. Reading on from where one read last is quick, since the last parts stay decoded.
    Equal to any text with the same characters in the same parts. Safe to read from several threads.

    >>> text = LongText(["Tea for ", "two ☕"])
    >>> text[4:11], len(text)
    ('for two', 13)
    """

    def __init__(self, parts: Iterable[str | bytes]) -> None:
        """Of strings, or of their UTF-8; raises UnicodeDecodeError where bytes are none."""
        self._parts: list[bytes] = []
        self._starts = [0]
        for part in parts:
            encoded = part if isinstance(part, bytes) else part.encode()
            n_chars = len(part) if isinstance(part, str) else len(part.decode())
            if n_chars:
                self._parts.append(encoded)
                self._starts.append(self._starts[-1] + n_chars)
        self._decoded: tuple[tuple[int, str], ...] = ()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, key: slice, /) -> str:
        start, stop, step = key.indices(len(self))
        if step != 1:
            raise ValueError("a long text is read forwards")
        if start >= stop:
            return ""
        number = bisect_right(self._starts, start) - 1
        begin = self._starts[number]
        if stop <= self._starts[number + 1]:
            return self._part(number)[start - begin : stop - begin]
        pieces = [self._part(number)[start - begin :]]
        while self._starts[number + 1] < stop:
            number += 1
            pieces.append(self._part(number)[: stop - self._starts[number]])
        return "".join(pieces)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LongText) and self._parts == other._parts

    __hash__ = None  # type: ignore[assignment]

    @property
    def n_bytes(self) -> int:
        """Bytes in UTF-8."""
        return sum(map(len, self._parts))

    def parts(self) -> Iterator[str]:
        """The text, part by part."""
        for part in self._parts:
            yield part.decode()

    def encoded(self) -> Iterator[bytes]:
        """The text in UTF-8, part by part."""
        return iter(self._parts)

    def _part(self, number: int) -> str:
        for known, text in self._decoded:
            if known == number:
                return text
        text = self._parts[number].decode()
        # Two, for a reader on the border between parts.
        self._decoded = ((number, text), *self._decoded[:1])
        return text


def parts_of(text: str | LongText) -> Iterator[str]:
    """The text in parts of at most about `PART_CHARS` characters; an empty text has none."""
    if isinstance(text, LongText):
        yield from text.parts()
    else:
        for start in range(0, len(text), PART_CHARS):
            yield text[start : start + PART_CHARS]


def text_of_parts(parts: Iterable[str]) -> str | LongText:
    """A string where there is one part, else a long text; takes one part at a time."""
    rest = iter(parts)
    first, second = next(rest, ""), next(rest, None)
    return first if second is None else LongText(chain((first, second), rest))


def whole_characters(data: bytes) -> int:
    """How many bytes from the beginning hold no half of a character.

    >>> whole_characters("tea ☕".encode()[:-1])
    4
    """
    for back in range(1, min(_LONGEST_CHARACTER, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:  # the first byte of a character says how many it has
            needed = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) if needed <= back else len(data) - back
    return len(data)
