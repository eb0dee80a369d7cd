"""Jupyter notebooks: Markdown cells as they are written, code cells and their text output as code."""

from __future__ import annotations

import json
import re

from indexing.errors import LoadError
from indexing.loaders.canonical import TextBuilder
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText

_HEADING = re.compile(r"(#{1,6})\s+(\S.*)")


def load_notebook(source: SourceFile) -> LoadedText:
    """The cells in order."""
    try:
        notebook = json.loads(source.text())
    except (ValueError, RecursionError) as exc:
        raise LoadError("corrupt_file", "not a valid notebook") from exc
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise LoadError("corrupt_file", "the notebook has no cells")
    builder = TextBuilder(source.limits.text_chars)
    for cell in cells:
        text = _joined(cell.get("source"))
        if cell.get("cell_type") == "code":
            builder.code(text)
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                builder.code(_joined(output.get("text") or data.get("text/plain")))
        else:
            _write_markdown(builder, text)
    return builder.finish()


def _joined(lines: object) -> str:
    return "".join(map(str, lines)) if isinstance(lines, list) else str(lines or "")


def _write_markdown(builder: TextBuilder, text: str) -> None:
    """Headings apart, the rest as it is."""
    pending: list[str] = []
    for line in text.split("\n"):
        found = _HEADING.match(line)
        if found is None:
            pending.append(line)
            continue
        builder.paragraph("\n".join(pending))
        pending.clear()
        builder.heading(found[2], len(found[1]))
    builder.paragraph("\n".join(pending))
