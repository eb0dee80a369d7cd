"""Markdown: the source is the canonical text; headings and blocks are mapped onto it by their lines."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token

from indexing.loaders.canonical import BlockKind, loaded_text, squeeze
from indexing.loaders.lines import SourceLines
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText, Scalar

_BLOCKS: dict[str, BlockKind] = {
    "fence": "code",
    "code_block": "code",
    "table_open": "table",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
}
_MAX_INLINE_CHARS = 1000  # the parser takes quadratic time on some longer ones
_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.*?)\n\1[ \t]*(?:\n|\Z)", re.S)
_FIELD = re.compile(r"([A-Za-z_][\w .-]*?)\s*[:=]\s*(.*)")


def load_markdown(source: SourceFile) -> LoadedText:
    """Markdown (CommonMark with tables); front matter goes to the metadata."""
    metadata, text = split_front_matter(source.text())
    lines = SourceLines(text)
    parser = MarkdownIt("commonmark").enable("table")
    # Only the block structure is needed; parsing inlines would take most of the time.
    parser.core.ruler.enableOnly(["normalize", "block"])
    tokens = parser.parse(text)
    inline = MarkdownIt("commonmark")
    for position, token in enumerate(tokens):
        if token.map is None:
            continue
        first, last = token.map[0], token.map[1] - 1
        if token.type == "heading_open":
            source_title = tokens[position + 1].content
            is_short = len(source_title) <= _MAX_INLINE_CHARS
            title = _inline_text(inline, source_title) if is_short else source_title
            lines.add_heading(int(token.tag[1:]), title, first, last)
        elif token.type in _BLOCKS:
            lines.add_block(_BLOCKS[token.type], first, last)
    return loaded_text(
        text,
        title=_title(metadata, lines),
        metadata=metadata,
        headings=lines.headings,
        blocks=lines.blocks,
    )


def split_front_matter(text: str) -> tuple[dict[str, Scalar | list[str]], str]:
    r"""The fields of YAML or TOML front matter (one level, plain values), and the text behind it.

    >>> split_front_matter("---\ntitle: A\ntags: [x, y]\n---\nText")
    ({'title': 'A', 'tags': ['x', 'y']}, 'Text')
    """
    found = _FRONT_MATTER.match(text)
    if found is None:
        return {}, text
    fields: dict[str, Scalar | list[str]] = {}
    name = ""
    for line in found[2].split("\n"):
        field = _FIELD.match(line)
        item = line.strip()
        if field is not None:
            name = field[1]
            fields[name] = _value(field[2])
        elif name and item.startswith("- ") and fields.get(name, "") in ("", []):
            fields[name] = [_unquoted(item[2:])]
        elif name and item.startswith("- ") and isinstance(items := fields.get(name), list):
            items.append(_unquoted(item[2:]))
    return fields, text[found.end() :]


def _value(text: str) -> str | list[str]:
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [_unquoted(item) for item in text[1:-1].split(",") if item.strip()]
    return _unquoted(text)


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _inline_text(parser: MarkdownIt, source: str) -> str:
    """The words of inline Markdown, without its marks."""
    parts: list[str] = []
    stack: list[Token] = list(reversed(parser.parseInline(source)))
    while stack:
        token = stack.pop()
        if token.children:
            stack.extend(reversed(token.children))
        elif token.type in ("text", "code_inline"):
            parts.append(token.content)
        elif token.type in ("softbreak", "hardbreak"):
            parts.append(" ")
    return squeeze("".join(parts)) or squeeze(source)


def _title(metadata: dict[str, Scalar | list[str]], lines: SourceLines) -> str | None:
    named = metadata.get("title")
    if isinstance(named, str) and named:
        return named
    top = min((heading.level for heading in lines.headings[:5]), default=0)
    return next((heading.title for heading in lines.headings if heading.level == top), None)
