"""A text as lines that know where they begin, for loaders that keep the source as canonical text."""

from __future__ import annotations

from dataclasses import dataclass, field

from indexing.loaders.canonical import BlockKind
from indexing.types import Block, Heading


@dataclass(slots=True)
class SourceLines:
    """The lines of a text, the offset of each, and the headings and blocks found on them."""

    text: str
    lines: list[str] = field(init=False)
    offsets: list[int] = field(init=False)
    headings: list[Heading] = field(init=False, default_factory=list)
    blocks: list[Block] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.lines = self.text.split("\n")
        self.offsets = []
        offset = 0
        for line in self.lines:
            self.offsets.append(offset)
            offset += len(line) + 1

    def __len__(self) -> int:
        return len(self.lines)

    def line(self, number: int) -> str:
        """The line without white space at its end; empty past the last."""
        return self.lines[number].rstrip() if 0 <= number < len(self.lines) else ""

    def end(self, number: int) -> int:
        """The offset just behind a line."""
        return self.offsets[number] + len(self.lines[number])

    def add_heading(self, level: int, title: str, first: int, last: int) -> None:
        """A heading on lines `first` to `last`."""
        self.headings.append(
            Heading(
                level=level, title=title, start=self.offsets[first], end=self.end(min(last, len(self) - 1))
            )
        )

    def add_block(self, kind: BlockKind, first: int, last: int) -> None:
        """A block on lines `first` to `last`."""
        if first <= last:
            self.blocks.append(
                Block(kind=kind, start=self.offsets[first], end=self.end(min(last, len(self) - 1)))
            )

    def indented_end(self, first: int, indent: int) -> int:
        """The last of the lines from `first` on that are indented by more than `indent`."""
        last = first - 1
        for number in range(first, len(self)):
            line = self.line(number)
            if line and len(line) - len(line.lstrip()) <= indent:
                break
            if line:
                last = number
        return last
