"""reStructuredText: the source is the canonical text; headings and blocks are found by a light parser.

No directive is carried out, so nothing can be included from elsewhere.
"""

from __future__ import annotations

import re

from indexing.loaders.canonical import loaded_text, squeeze
from indexing.loaders.lines import SourceLines
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText, Scalar

_ADORNMENT = re.compile(r"([!-/:-@[-`{-~])\1*$")
_FIELD = re.compile(r":?([A-Z][\w-]*):[ \t]+(\S.*)$")
_CODE_DIRECTIVE = re.compile(
    r"\s*\.\. (?:code|code-block|sourcecode|highlight|parsed-literal|prompt|testcode|doctest|"
    r"productionlist|math)::"
)
_COMMENT = re.compile(r"\s*\.\.(?:\s|$)")
_SIMPLE_TABLE = re.compile(r"=+(?: +=+)+$")
_GRID_TABLE = re.compile(r"\+(?:[-=]+\+)+$")
_ITEM = re.compile(r"(?:[-*+•]|\(?(?:\d+|[a-zA-Z]|#)[.)])\s+\S")
_ROLE = re.compile(r":[\w:+.-]+:`([^`]*)`|``([^`]*)``|`([^`<]*?)\s*(?:<[^`]*>)?`_{0,2}|\*\*([^*]*)\*\*")


def load_restructured_text(source: SourceFile) -> LoadedText:
    """reStructuredText; a field list or mail-like header at the top goes to the metadata too."""
    lines = SourceLines(source.text())
    metadata = _header_fields(lines)
    levels: dict[tuple[str, bool], int] = {}
    number = 0
    while number < len(lines):
        number = _heading(lines, number, levels) or _block(lines, number) or number + 1
    named = metadata.get("Title")
    first = lines.headings[0].title if lines.headings else None
    return loaded_text(
        lines.text,
        title=str(named) if named else first,
        metadata=metadata,
        headings=lines.headings,
        blocks=lines.blocks,
    )


def _header_fields(lines: SourceLines) -> dict[str, Scalar | list[str]]:
    fields: dict[str, Scalar | list[str]] = {}
    name = ""
    for number in range(len(lines)):
        line = lines.line(number)
        found = _FIELD.match(line)
        if found is not None:
            name = found[1]
            fields[name] = found[2]
        elif name and line.startswith((" ", "\t")):
            fields[name] = f"{fields[name]} {line.strip()}"
        elif line or fields:
            break
    return fields


def _heading(lines: SourceLines, number: int, levels: dict[tuple[str, bool], int]) -> int | None:
    """The line behind a heading that begins here; levels go by the order in which the adornments appear."""
    line, below, beneath = lines.line(number), lines.line(number + 1), lines.line(number + 2)
    if _is_adornment(line, below.strip()) and below.strip() and beneath == line:
        style, text, last = (line[0], True), below, number + 2
    elif line and not line[0].isspace() and _is_adornment(below, line) and not _ADORNMENT.match(line):
        style, text, last = (below[0], False), line, number + 1
        if lines.line(number - 1) and number > 0 and not _COMMENT.match(lines.line(number - 1)):
            return None  # the last line of a paragraph
    else:
        return None
    level = levels.setdefault(style, len(levels) + 1)
    title = _ROLE.sub(lambda m: next((group for group in m.groups() if group is not None), ""), text)
    lines.add_heading(level, squeeze(title.replace("\\", "")), number, last)
    return last + 1


def _is_adornment(line: str, title: str) -> bool:
    return _ADORNMENT.match(line) is not None and len(line) >= min(4, max(2, len(title)))


def _block(lines: SourceLines, number: int) -> int | None:
    """The line behind a code block, table or list that begins here."""
    line = lines.line(number)
    indent = len(line) - len(line.lstrip())
    words = line.strip()
    if _CODE_DIRECTIVE.match(line):
        return _indented(lines, number, number + 1, indent)
    if words.endswith("::") and not _COMMENT.match(line):
        return _indented(lines, number, number + 1, indent)
    if words.startswith(">>> "):
        return _run(lines, number, "code")
    if _GRID_TABLE.match(words):
        return _run(lines, number, "table")
    if _SIMPLE_TABLE.match(words):
        return _simple_table(lines, number)
    if _ITEM.match(line) and indent == 0:
        return _list(lines, number)
    return None


def _indented(lines: SourceLines, number: int, first: int, indent: int) -> int | None:
    """An indented block of code under line `number`; a directive belongs to its code."""
    last = lines.indented_end(first, indent)
    if last < first:
        return None
    start = number if _CODE_DIRECTIVE.match(lines.line(number)) else first
    lines.add_block("code", start, last)
    return last + 1


def _run(lines: SourceLines, number: int, kind: str) -> int:
    last = number
    while lines.line(last + 1):
        last += 1
    lines.add_block("code" if kind == "code" else "table", number, last)
    return last + 1


def _simple_table(lines: SourceLines, number: int) -> int | None:
    """A table between borders of `=`: the last border is the one before a blank line."""
    for last in range(number + 1, len(lines)):
        if _SIMPLE_TABLE.match(lines.line(last).strip()) and not lines.line(last + 1):
            lines.add_block("table", number, last)
            return last + 1
    return None


def _list(lines: SourceLines, number: int) -> int:
    """Items at the left margin with what is indented under them.

    A literal block inside an item stays part of the list.
    """
    last = number
    following = number + 1
    while following < len(lines):
        line = lines.line(following)
        if line and not line[0].isspace() and not _ITEM.match(line):
            break
        if line:
            last = following
        following += 1
    lines.add_block("list", number, last)
    return last + 1
