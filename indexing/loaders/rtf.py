"""Rich Text Format."""

from __future__ import annotations

import re

from striprtf.striprtf import rtf_to_text

from indexing.errors import LoadError
from indexing.loaders.canonical import TextBuilder
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText

_TITLE = re.compile(r"\{\\title\s+([^{}\\]+)\}")
_CELL_MARK = "|"


def load_rtf(source: SourceFile) -> LoadedText:
    """Paragraphs and table rows."""
    markup = source.data().decode("latin-1")
    title = _TITLE.search(markup)
    text: str = rtf_to_text(markup, errors="ignore")  # type: ignore[no-untyped-call]
    if not text.strip() and markup.count("{") > markup.count("}"):
        raise LoadError("corrupt_file", "the file ends inside a group")
    builder = TextBuilder(source.limits.text_chars)
    rows: list[list[str]] = []
    for line in text.split("\n"):
        if line.rstrip().endswith(_CELL_MARK):
            rows.append(line.rstrip().removesuffix(_CELL_MARK).split(_CELL_MARK))
            continue
        if rows:
            builder.table(rows)
            rows = []
        builder.paragraph(line)
    if rows:
        builder.table(rows)
    return builder.finish(title=title[1] if title else None)
