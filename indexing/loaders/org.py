"""Org: the source is the canonical text; headings, blocks and tables are found line by line."""

from __future__ import annotations

import re

from indexing.loaders.canonical import BlockKind, loaded_text, squeeze
from indexing.loaders.lines import SourceLines
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText, Scalar

_HEADING = re.compile(r"(\*+)\s+(?:(?:TODO|DONE|NEXT|WAITING)\s+)?(?:\[#\w\]\s+)?(\S.*?)(?:\s+:[\w@:]+:)?$")
_KEYWORD = re.compile(r"#\+(title|author|date|description|keywords|language|email):\s*(\S.*)$", re.I)
_BEGIN = re.compile(r"\s*#\+begin_(src|example|export|verse)", re.I)
_END = re.compile(r"\s*#\+end_(src|example|export|verse)", re.I)
_TABLE_ROW = re.compile(r"\s*\|")
_ITEM = re.compile(r"(?:\s*[-+]|\s+\*|\s*\d+[.)])\s+\S")
_IN_LIST = re.compile(rf"{_ITEM.pattern}|\s+\S")


def load_org(source: SourceFile) -> LoadedText:
    """Org; keywords such as `#+TITLE:` go to the metadata too. Nothing is included or run."""
    lines = SourceLines(source.text())
    metadata: dict[str, Scalar | list[str]] = {}
    number = 0
    while number < len(lines):
        line = lines.line(number)
        if found := _HEADING.match(line):
            lines.add_heading(len(found[1]), squeeze(found[2]), number, number)
        elif found := _KEYWORD.match(line):
            metadata[found[1].lower()] = found[2]
        elif _BEGIN.match(line):
            number = _source_block(lines, number)
        elif _TABLE_ROW.match(line):
            number = _block(lines, number, _TABLE_ROW, "table")
        elif _ITEM.match(line):
            number = _block(lines, number, _IN_LIST, "list")
        number += 1
    first = lines.headings[0].title if lines.headings else None
    named = metadata.get("title")
    return loaded_text(
        lines.text,
        title=str(named) if named else first,
        metadata=metadata,
        headings=lines.headings,
        blocks=lines.blocks,
    )


def _source_block(lines: SourceLines, number: int) -> int:
    """The last line of a `#+begin_…` block; the line itself where the block has no end."""
    for last in range(number + 1, len(lines)):
        if _END.match(lines.line(last)):
            lines.add_block("code", number, last)
            return last
    return number


def _block(lines: SourceLines, number: int, member: re.Pattern[str], kind: BlockKind) -> int:
    """The last of the lines from `number` on that belong to the block."""
    last = number
    while member.match(lines.line(last + 1)):
        last += 1
    lines.add_block(kind, number, last)
    return last
