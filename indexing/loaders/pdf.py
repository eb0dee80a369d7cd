"""PDF: the text layer of each page in the order it is painted, with lines joined to paragraphs."""

from __future__ import annotations

import ctypes
import math
import re

import pypdfium2
import pypdfium2.raw as pdfium

from indexing.errors import LoadError
from indexing.loaders.canonical import TextBuilder, squeeze
from indexing.loaders.pdf_layout import COLUMN_GAP, COLUMN_MARK, HYPHEN, Fragment, Paragraph, compose
from indexing.loaders.source import SourceFile
from indexing.types import LoadedText, Scalar

_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_SOFT_BREAKS = (0xFFFE, 0x02)  # what PDFium puts where a word is broken over two lines
_FIELDS = {"Author": "author", "Subject": "subject", "Keywords": "keywords", "CreationDate": "created"}
_FILE_NAME = re.compile(r"^(untitled|microsoft (word|powerpoint) - .*|.*\.\w{2,5}|[\w-]*\d[\w-]*)$", re.I)
_LEADERS = re.compile(r"(?:\s?[.·_]){4,}\s?")  # between an entry and its page in a table of contents
_ITEM_MARK = re.compile(r"\s*(?:[^\w\s]{1,2}|\(?\w{1,3}[.)])\s*$")  # stands apart from its item
_CURRENCY = re.compile(r"(?: \|)?(?: |^)([$€£¥]) \| (?=[\d(—-])")  # a sign set apart from its amount
_MAX_OUTLINE_ITEMS = 5000
_BOLD = re.compile(rb"bold|black|heavy|semibd|demi", re.I)


def load_pdf(source: SourceFile) -> LoadedText:
    """A PDF file; encrypted_file where it asks for a password, empty_file where it has no text layer."""
    try:
        document = pypdfium2.PdfDocument(source.path)
    except pypdfium2.PdfiumError as exc:
        if exc.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise LoadError("encrypted_file", "the document is protected with a password") from exc
        if exc.err_code == pdfium.FPDF_ERR_SECURITY:
            raise LoadError(
                "encrypted_file", "the document is encrypted in a way that is not known here"
            ) from exc
        raise LoadError("corrupt_file", f"not a readable PDF: {exc}") from exc
    try:
        return _load(document, source)
    finally:
        document.close()


def _load(document: pypdfium2.PdfDocument, source: SourceFile) -> LoadedText:
    n_pages = len(document)
    pages: list[list[Fragment]] = []
    heights: list[float] = []
    n_chars = n_damaged = 0
    for number in range(n_pages):
        try:
            page = document[number]
        except pypdfium2.PdfiumError:
            n_damaged += 1
            pages.append([])
            heights.append(0.0)
            continue
        pages.append(_fragments(page))
        heights.append(page.get_height())
        page.close()
        n_chars += sum(len(fragment.text) for fragment in pages[-1])
        if n_chars > source.limits.text_chars:
            raise LoadError("too_large", f"the text has over {source.limits.text_chars} characters")
    if n_damaged == n_pages:
        raise LoadError("corrupt_file", "none of the document's pages can be read")
    if not n_chars:
        raise LoadError("empty_file", "the document has no text layer; a scan needs OCR first")
    builder = TextBuilder(source.limits.text_chars)
    heading: Paragraph | None = None  # the most prominent of the first page with any
    for number, paragraphs in enumerate(compose(pages, heights, _outline(document)), start=1):
        builder.page(number)
        for paragraph in paragraphs:
            _write(builder, paragraph)
        heading = heading or min(
            (paragraph for paragraph in paragraphs if paragraph.heading_level is not None),
            key=lambda paragraph: paragraph.heading_level or 0,
            default=None,
        )
    title = _title(document) or (None if heading is None else heading.text)
    return builder.finish(title=title, metadata=_metadata(document, n_pages))


def _write(builder: TextBuilder, paragraph: Paragraph) -> None:
    if paragraph.heading_level is not None:
        builder.heading(paragraph.text, paragraph.heading_level)
    elif paragraph.kind is not None:
        with builder.block(paragraph.kind):
            builder.paragraph(paragraph.text)
    else:
        builder.paragraph(paragraph.text)


def _fragments(page: pypdfium2.PdfPage) -> list[Fragment]:
    """Runs of characters that PDFium sees on one line, in the order they are painted."""
    text_page = page.get_textpage()
    try:
        handle = text_page.raw
        codes = [pdfium.FPDFText_GetUnicode(handle, index) for index in range(text_page.count_chars())]
        fragments = []
        start = 0
        for index, code in enumerate([*codes, 0x0A]):
            if code not in (0x0A, 0x0D) and code not in _SOFT_BREAKS:
                continue
            fragment = _fragment(handle, codes, start, index, code in _SOFT_BREAKS)
            if fragment is not None:
                fragments.append(fragment)
            start = index + 1
        return fragments
    finally:
        text_page.close()


def _fragment(handle: object, codes: list[int], start: int, end: int, is_hyphenated: bool) -> Fragment | None:
    while start < end and (codes[start] <= 0x20 or codes[start] == 0xA0):
        start += 1
    while end > start and (codes[end - 1] <= 0x20 or codes[end - 1] == 0xA0):
        end -= 1
    text = squeeze(_words(handle, codes, start, end).translate(_LIGATURES))
    if not text:
        return None
    first, last = _box(handle, start), _box(handle, end - 1)
    return Fragment(
        text=text + HYPHEN if is_hyphenated else text,
        left=min(first.left, last.left),
        right=max(first.right, last.right),
        bottom=min(first.bottom, last.bottom),
        top=max(first.top, last.top),
        size=_size(handle, start) or max(first.top - first.bottom, 0.1),
        is_bold=_is_bold(handle, start) and _is_bold(handle, end - 1),
        is_turned=_is_turned(handle, start),
    )


def _words(handle: object, codes: list[int], start: int, end: int) -> str:
    """The characters, with a mark where a gap is as wide as one between columns."""
    pieces: list[str] = []
    piece_start = start
    for index in range(start + 1, end - 1):
        if codes[index] == 0x20 and codes[index + 1] > 0x20:
            before, after = _box(handle, index - 1), _box(handle, index + 1)
            height = max(before.top - before.bottom, after.top - after.bottom)
            if after.left - before.right > COLUMN_GAP * height > 0:
                if not pieces and _ITEM_MARK.match(_decoded(codes[start:index])):
                    continue
                pieces.append(_decoded(codes[piece_start:index]))
                piece_start = index + 1
    pieces.append(_decoded(codes[piece_start:end]))
    line = COLUMN_MARK.join(filter(None, (_LEADERS.sub(" … ", squeeze(piece)).strip() for piece in pieces)))
    return _CURRENCY.sub(lambda found: f"{COLUMN_MARK if found.start() else ''}{found[1]}", line)


def _size(handle: object, index: int) -> float:
    """The size of the font as it is drawn."""
    matrix = pdfium.FS_MATRIX()
    if not pdfium.FPDFText_GetMatrix(handle, index, matrix):
        return 0.0
    return float(pdfium.FPDFText_GetFontSize(handle, index) * math.hypot(matrix.c, matrix.d))


def _is_turned(handle: object, index: int) -> bool:
    """The character does not stand upright."""
    angle = pdfium.FPDFText_GetCharAngle(handle, index)
    return bool(0.3 < angle < 2 * math.pi - 0.3)


def _decoded(codes: list[int]) -> str:
    """Characters of UTF-16 code units or code points, whichever PDFium gives."""
    if any(0xD800 <= code < 0xE000 for code in codes):
        units = b"".join(code.to_bytes(2, "little") for code in codes if code < 0x10000)
        return units.decode("utf-16-le", "replace")
    return "".join(chr(code) for code in codes if code < 0x110000)


def _box(handle: object, index: int) -> pdfium.FS_RECTF:
    """The place of a character, with the whole height of its font."""
    box = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(handle, index, box)
    return box


def _is_bold(handle: object, index: int) -> bool:
    if pdfium.FPDFText_GetFontWeight(handle, index) >= 600:
        return True
    name = ctypes.create_string_buffer(128)
    length = pdfium.FPDFText_GetFontInfo(handle, index, name, len(name), None)
    return 0 < length <= len(name) and _BOLD.search(name.raw[:length]) is not None


def _outline(document: pypdfium2.PdfDocument) -> dict[tuple[int, str], int]:
    """The level of each entry of the document's outline, by page index and title."""
    levels: dict[tuple[int, str], int] = {}
    try:
        for item in document.get_toc(max_depth=8):
            destination = item.get_dest()
            page = None if destination is None else destination.get_index()
            title = squeeze(item.get_title())
            if page is not None and title:
                levels.setdefault((page, title.casefold()), item.level + 1)
            if len(levels) >= _MAX_OUTLINE_ITEMS:
                break
    except (pypdfium2.PdfiumError, ValueError):
        return levels  # a damaged outline costs headings, not the text
    return levels


def _title(document: pypdfium2.PdfDocument) -> str | None:
    """The stated title, unless it is only the name of the file it was made from."""
    stated = squeeze(_field(document, "Title"))
    return stated if len(stated) > 3 and not _FILE_NAME.match(stated) else None


def _metadata(document: pypdfium2.PdfDocument, n_pages: int) -> dict[str, Scalar | list[str]]:
    metadata: dict[str, Scalar | list[str]] = {"n_pages": n_pages}
    for field, name in _FIELDS.items():
        if value := _field(document, field):
            metadata[name] = value
    return metadata


def _field(document: pypdfium2.PdfDocument, name: str) -> str:
    try:
        return str(document.get_metadata_value(name))
    except (pypdfium2.PdfiumError, UnicodeDecodeError):
        return ""
