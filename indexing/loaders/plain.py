"""Plain text and source code: the file is the canonical text."""

from __future__ import annotations

from indexing.loaders.canonical import clean, loaded_text
from indexing.loaders.detection import CODE_LANGUAGES
from indexing.loaders.source import SourceFile
from indexing.types import Block, LoadedText, Page

_MAX_PAGES = 10_000


def load_text(source: SourceFile) -> LoadedText:
    """Plain text; form feeds part pages."""
    decoded = source.decoded()
    if not 0 < decoded.strip().count("\f") <= _MAX_PAGES:
        return loaded_text(clean(decoded))
    parts: list[str] = []
    pages: list[Page] = []
    start = 0
    for number, content in enumerate(decoded.split("\f"), start=1):
        part = clean(content) + "\n"
        parts.append(part)
        pages.append(Page(page=number, start=start, end=start + len(part)))
        start += len(part)
    return loaded_text("".join(parts), pages=pages)


def load_code(source: SourceFile) -> LoadedText:
    """Source code as one code block; the language goes to the metadata."""
    text = source.text()
    language = CODE_LANGUAGES.get(source.extension, source.extension)
    return loaded_text(
        text, metadata={"language": language}, blocks=[Block(kind="code", start=0, end=len(text))]
    )
