"""Sections: stretches of a text under one heading, or one record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from indexing.types import Heading, LoadedText


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Characters `[start, end)`; the heading ends at `body`. Level 0 stands before the first heading.

    `apart` sections share no chunk with what is before them.
    """

    start: int
    body: int
    end: int
    level: int
    path: tuple[str, ...]
    apart: bool


def sections(loaded: LoadedText, title: str | None) -> Iterator[Section]:
    """The sections in the order of the text, without gaps; `path` is the title and the headings above."""
    length = len(loaded.text)
    borders = {edge for block in loaded.blocks if block.kind == "record" for edge in (block.start, block.end)}
    headings = {heading.start: heading for heading in loaded.headings}
    starts = sorted(start for start in {0, *headings, *borders} if start < length)
    open_headings: list[Heading] = []
    for start, end in pairwise([*starts, length]):
        heading = headings.get(start)
        if heading is not None:
            while open_headings and open_headings[-1].level >= heading.level:
                open_headings.pop()
            open_headings.append(heading)
        yield Section(
            start=start,
            body=min(heading.end, end) if heading is not None else start,
            end=end,
            level=open_headings[-1].level if open_headings else 0,
            path=_path(title, open_headings),
            apart=start in borders,
        )


def _path(title: str | None, headings: list[Heading]) -> tuple[str, ...]:
    """Title and headings, each on one line and only once."""
    path: list[str] = []
    for name in (title or "", *(heading.title for heading in headings)):
        line = " ".join(name.split())
        if line and line.casefold() not in (known.casefold() for known in path):
            path.append(line)
    return tuple(path)


def fit_path(
    path: tuple[str, ...], max_tokens: int, count: Callable[[str], int]
) -> tuple[tuple[str, ...], int]:
    """The path within `max_tokens`, and its tokens: headings in the middle go first, then words at the ends.

    The title says what the document is and the last heading what the text is; what lies between says least.
    """
    while (n_tokens := count(" > ".join(path))) > max_tokens:
        if len(path) > 2:
            path = (path[0], *path[2:])
        else:
            longest = max(range(len(path)), key=lambda part: len(path[part]))
            shorter = _shorten(path[longest])
            path = tuple(shorter if part == longest else name for part, name in enumerate(path))
            path = tuple(name for name in path if name)
    return path, n_tokens


def _shorten(name: str) -> str:
    """The name without its last fifth, cut between words where it has any; in the end nothing."""
    name = name.removesuffix("…").rstrip()
    kept = name[: len(name) * 4 // 5]
    kept = kept[: kept.rfind(" ")] if " " in kept else kept
    return f"{kept.rstrip()}…" if len(kept) > 3 else ""


def common_path(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The headings that stand above all of them.

    >>> common_path([("Guide", "Install", "Linux"), ("Guide", "Install", "Windows")])
    ('Guide', 'Install')
    """
    shared = paths[0]
    for path in paths[1:]:
        n_shared = 0
        while n_shared < min(len(shared), len(path)) and shared[n_shared] == path[n_shared]:
            n_shared += 1
        shared = shared[:n_shared]
    return shared
