"""AsciiDoc: the source is the canonical text; headings and delimited blocks are found line by line."""

from __future__ import annotations

import re

from indexing.loaders.canonical import BlockKind, loaded_text, squeeze
from indexing.loaders.lines import SourceLines
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText, Scalar

_HEADING = re.compile(r"(={1,6}|#{1,6})\s+(\S.*)$")
_ATTRIBUTE = re.compile(r":([\w-]+):\s*(.*)$")
_DELIMITER = re.compile(r"(-{4,}|\.{4,}|`{3,}|\+{4,}|/{4,}|[|,:!]={3,})")
_ITEM = re.compile(r"\s*(?:[*.-]+|\d+\.)\s+\S")
_MARKS = re.compile(r"[*_`#]{1,2}(\S(?:.*?\S)?)[*_`#]{1,2}")


def load_asciidoc(source: SourceFile) -> LoadedText:
    """AsciiDoc; document attributes go to the metadata and stay in the text. Nothing is included."""
    lines = SourceLines(source.text())
    metadata: dict[str, Scalar | list[str]] = {}
    number = 0
    while number < len(lines):
        line = lines.line(number)
        if found := _DELIMITER.match(line):
            number = _delimited(lines, number, found[1])
        elif found := _HEADING.match(line):
            lines.add_heading(len(found[1]), squeeze(_MARKS.sub(r"\1", found[2])), number, number)
            number += 1
        elif _ITEM.match(line):
            number = _list(lines, number)
        else:
            if (found := _ATTRIBUTE.match(line)) and found[2] and not lines.headings[1:]:
                metadata[found[1]] = found[2]
            number += 1
    title = lines.headings[0].title if lines.headings else None
    return loaded_text(
        lines.text, title=title, metadata=metadata, headings=lines.headings, blocks=lines.blocks
    )


def _delimited(lines: SourceLines, number: int, delimiter: str) -> int:
    """The line behind a block between two equal delimiters; a delimiter without its pair is plain text."""
    for last in range(number + 1, len(lines)):
        if lines.line(last) == delimiter:
            kind: BlockKind = "table" if delimiter.endswith("===") else "code"
            lines.add_block(kind, number, last)
            return last + 1
    return number + 1


def _list(lines: SourceLines, number: int) -> int:
    """Items and the lines attached to them, until two blank lines, a heading or an unindented paragraph."""
    last = number
    for following in range(number + 1, len(lines)):
        line = lines.line(following)
        if line and not lines.line(following - 1) and not _ITEM.match(line) and line != "+":
            break
        if _HEADING.match(line) or _DELIMITER.match(line):
            break
        if line:
            last = following
    lines.add_block("list", number, last)
    return last + 1
