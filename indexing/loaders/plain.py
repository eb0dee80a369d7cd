"""Plain text and source code: the file is the canonical text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from indexing.loaders.canonical import clean, loaded_text
from indexing.loaders.detection import CODE_LANGUAGES
from indexing.loaders.source import SourceFile
from indexing.long_text import text_of_parts
from indexing.types import Block, LoadedText, Page

_MAX_PAGES = 10_000


def load_text(source: SourceFile) -> LoadedText:
    """Plain text; form feeds part pages. Taken in pieces: no other format comes in files of this size."""
    pages = _Pages()
    text = text_of_parts(_clean_pieces(source.decoded_pieces(), pages))
    return loaded_text(text, pages=pages.found())


def load_code(source: SourceFile) -> LoadedText:
    """Source code as one code block; the language goes to the metadata."""
    text = source.text()
    language = CODE_LANGUAGES.get(source.extension, source.extension)
    return loaded_text(
        text, metadata={"language": language}, blocks=[Block(kind="code", start=0, end=len(text))]
    )


def _clean_pieces(pieces: Iterable[str], pages: _Pages) -> Iterator[str]:
    """The pieces, clean; of a line end that two of them share no half is taken for a whole one."""
    held = ""
    for piece in pieces:
        whole = held + piece
        held = "\r" if whole.endswith("\r") else ""
        yield pages.pass_by(whole.removesuffix(held))
    if held:
        yield pages.pass_by(held)


class _Pages:
    """Where form feeds part the text that passes by."""

    def __init__(self) -> None:
        self._length = 0
        self._page_start = 0
        self._page_is_blank = True
        self._n_pages = 1
        self._pages: list[Page] = []

    def pass_by(self, piece: str) -> str:
        """The piece, clean."""
        cleaned = []
        for position, content in enumerate(piece.split("\f")):
            if position:
                self._end_page()
                cleaned.append("\n")
                self._length += 1
                self._page_start = self._length
            part = clean(content)
            cleaned.append(part)
            self._length += len(part)
            self._page_is_blank = self._page_is_blank and (not part or part.isspace())
        return "".join(cleaned)

    def found(self) -> list[Page]:
        """The pages with text; none where all of it is on one, or where there are too many to be pages."""
        self._end_page()
        if len(self._pages) < 2 or self._pages[-1].page - self._pages[0].page > _MAX_PAGES:
            return []
        return self._pages

    def _end_page(self) -> None:
        if not self._page_is_blank and len(self._pages) < _MAX_PAGES + 2:
            self._pages.append(Page(page=self._n_pages, start=self._page_start, end=self._length))
        self._page_is_blank = True
        self._n_pages += 1
