"""Writes the HTML, PDF and DOCX pages of the manual from their Markdown sources.

`docs/manual_sources/08-fusion.pdf.md` becomes `docs/manual/08-fusion.pdf`, and so on; pages that are Markdown
themselves stand in `docs/manual/` as they are. The same sources give the same bytes: dates are fixed, and zip
members carry no time of day. Run `python docs/build_manual.py`, or with `--check` to learn whether the pages
are up to date. PDF needs reportlab (`pip install 'footnote[docs]'`).
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path

from docx import Document
from markdown_it import MarkdownIt
from markdown_it.token import Token

DOCS = Path(__file__).parent
SOURCES = DOCS / "manual_sources"
MANUAL = DOCS / "manual"
DATE = datetime(2025, 1, 1)
AUTHOR = "Footnote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Characters of one kind within a line of text."""

    text: str
    bold: bool = False
    italic: bool = False
    code: bool = False
    href: str | None = None


Line = tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    level: int
    line: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    line: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list; its items are single lines."""

    ordered: bool
    items: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells; the first row names the columns."""

    rows: tuple[tuple[Line, ...], ...]


Block = Heading | Paragraph | Listing | Code | Table


def plain(line: Line) -> str:
    """The characters of a line.

    >>> plain((Run(text="a "), Run(text="b", code=True)))
    'a b'
    """
    return "".join(run.text for run in line)


def read_blocks(markdown: str) -> list[Block]:
    """The blocks of a source; raises ValueError for Markdown that not all three formats can show."""
    tokens = iter(MarkdownIt("commonmark").enable("table").parse(markdown))
    return [_block(token, tokens) for token in tokens]


def _block(token: Token, rest: Iterator[Token]) -> Block:
    match token.type:
        case "heading_open":
            return Heading(level=int(token.tag[1]), line=_lines_until("heading_close", rest)[0])
        case "paragraph_open":
            return Paragraph(line=_lines_until("paragraph_close", rest)[0])
        case "bullet_list_open" | "ordered_list_open":
            close = token.type.replace("open", "close")
            return Listing(ordered=token.tag == "ol", items=tuple(_lines_until(close, rest)))
        case "fence":
            return Code(text=token.content.rstrip("\n"))
        case "table_open":
            return _table(rest)
    raise ValueError(f"Markdown of kind {token.type!r} has no form in all formats")


def _lines_until(close: str, rest: Iterator[Token]) -> list[Line]:
    lines: list[Line] = []
    for token in rest:
        if token.type == close:
            return lines
        if token.type == "inline":
            lines.append(_line(token.children or ()))
        elif token.type not in ("list_item_open", "list_item_close", "paragraph_open", "paragraph_close"):
            raise ValueError(f"{token.type!r} inside {close!r}")
    raise ValueError(f"no {close!r}")


def _table(rest: Iterator[Token]) -> Table:
    rows: list[list[Line]] = []
    for token in rest:
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_line(token.children or ()))
    return Table(rows=tuple(tuple(row) for row in rows))


def _line(tokens: Sequence[Token]) -> Line:
    runs = []
    bold = italic = False
    href: str | None = None
    for token in tokens:
        match token.type:
            case "strong_open" | "strong_close":
                bold = token.type == "strong_open"
            case "em_open" | "em_close":
                italic = token.type == "em_open"
            case "link_open":
                href = str(token.attrs["href"])
            case "link_close":
                href = None
            case "softbreak":
                runs.append(Run(text=" "))
            case "text" | "code_inline":
                code = token.type == "code_inline"
                if token.content:
                    runs.append(Run(text=token.content, bold=bold, italic=italic, code=code, href=href))
            case _:
                raise ValueError(f"{token.type!r} has no form in all formats")
    return tuple(runs)


def title_of(blocks: Sequence[Block]) -> str:
    first = blocks[0]
    if not (isinstance(first, Heading) and first.level == 1):
        raise ValueError("a page begins with its title")
    return plain(first.line)


# HTML

_HTML_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="author" content="{author}">
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def html_page(blocks: Sequence[Block]) -> bytes:
    body = "\n".join(_html_block(block) for block in blocks)
    return _HTML_PAGE.format(title=escape(title_of(blocks)), author=AUTHOR, body=body).encode()


def _html_block(block: Block) -> str:
    match block:
        case Heading(level=level, line=line):
            return f"<h{level}>{_html_line(line)}</h{level}>"
        case Paragraph(line=line):
            return f"<p>{_html_line(line)}</p>"
        case Listing(ordered=ordered, items=items):
            tag = "ol" if ordered else "ul"
            return "\n".join([f"<{tag}>", *(f"<li>{_html_line(item)}</li>" for item in items), f"</{tag}>"])
        case Code(text=text):
            return f"<pre><code>{escape(text)}</code></pre>"
        case Table(rows=rows):
            head, *body = rows
            lines = [_html_row(head, "th"), *(_html_row(row, "td") for row in body)]
            return "\n".join(["<table>", *lines, "</table>"])


def _html_row(row: Sequence[Line], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{_html_line(cell)}</{tag}>" for cell in row) + "</tr>"


def _html_line(line: Line) -> str:
    return "".join(_html_run(run) for run in line)


def _html_run(run: Run) -> str:
    text = escape(run.text)
    if run.code:
        text = f"<code>{text}</code>"
    if run.bold:
        text = f"<strong>{text}</strong>"
    if run.italic:
        text = f"<em>{text}</em>"
    return f'<a href="{escape(run.href)}">{text}</a>' if run.href else text


# DOCX


def docx_page(blocks: Sequence[Block]) -> bytes:
    document = Document()
    core = document.core_properties
    core.title, core.author, core.last_modified_by = title_of(blocks), AUTHOR, AUTHOR
    core.created = core.modified = DATE
    core.comments, core.revision = "", 1
    for block in blocks:
        match block:
            case Heading(level=level, line=line):
                document.add_heading(plain(line), level=level)
            case Paragraph(line=line):
                _docx_runs(document.add_paragraph(), line)
            case Listing(ordered=ordered, items=items):
                for item in items:
                    style = "List Number" if ordered else "List Bullet"
                    _docx_runs(document.add_paragraph(style=style), item)
            case Code(text=text):
                _docx_runs(document.add_paragraph(style="No Spacing"), (Run(text=text, code=True),))
            case Table(rows=rows):
                table = document.add_table(rows=len(rows), cols=len(rows[0]), style="Table Grid")
                for row, cells in zip(rows, table.rows, strict=True):
                    for line, cell in zip(row, cells.cells, strict=True):
                        _docx_runs(cell.paragraphs[0], line)
    written = io.BytesIO()
    document.save(written)
    return _without_times(written.getvalue())


def _docx_runs(paragraph: object, line: Line) -> None:
    for run in line:
        added = paragraph.add_run(run.text)  # type: ignore[attr-defined]
        added.bold, added.italic = run.bold or None, run.italic or None
        if run.code:
            added.font.name = "Courier New"


def _without_times(archive: bytes) -> bytes:
    """The same zip members, each with the earliest date that zip can say."""
    written = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as source,
        zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(member, source.read(name))
    return written.getvalue()


# PDF


def pdf_page(blocks: Sequence[Block]) -> bytes:
    """Raises ModuleNotFoundError without reportlab."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.platypus import Flowable, SimpleDocTemplate

    written = io.BytesIO()
    document = SimpleDocTemplate(
        written,
        pagesize=A4,
        leftMargin=25 * mm,
        rightMargin=25 * mm,
        topMargin=25 * mm,
        bottomMargin=25 * mm,
        title=title_of(blocks),
        author=AUTHOR,
        invariant=1,
        lang="en",
    )
    story: list[Flowable] = []
    for block in blocks:
        story.extend(_pdf_block(block))
    document.build(story)
    return written.getvalue()


def _pdf_block(block: Block) -> list[object]:
    from reportlab.lib import colors
    from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
    from reportlab.platypus import KeepTogether, ListFlowable, ListItem, Preformatted, Spacer
    from reportlab.platypus import Paragraph as PdfParagraph
    from reportlab.platypus import Table as PdfTable

    styles = getSampleStyleSheet()
    body = ParagraphStyle("Body", parent=styles["BodyText"], fontSize=10.5, leading=15, spaceAfter=6)
    match block:
        case Heading(level=level, line=line):
            return [PdfParagraph(_pdf_line(line), styles[f"Heading{level}"])]
        case Paragraph(line=line):
            return [PdfParagraph(_pdf_line(line), body)]
        case Listing(ordered=ordered, items=items):
            kind = "1" if ordered else "bullet"
            return [
                ListFlowable(
                    [ListItem(PdfParagraph(_pdf_line(item), body)) for item in items], bulletType=kind
                )
            ]
        case Code(text=text):
            return [Preformatted(text, styles["Code"]), Spacer(1, 8)]
        case Table(rows=rows):
            cells = [[PdfParagraph(_pdf_line(cell), body) for cell in row] for row in rows]
            grid = [("GRID", (0, 0), (-1, -1), 0.5, colors.grey), ("VALIGN", (0, 0), (-1, -1), "TOP")]
            return [KeepTogether(PdfTable(cells, style=grid, hAlign="LEFT")), Spacer(1, 8)]


def _pdf_line(line: Line) -> str:
    return "".join(_pdf_run(run) for run in line)


def _pdf_run(run: Run) -> str:
    run.text.encode("cp1252")  # the standard fonts have no other characters: better an error than a black box
    text = escape(run.text, quote=False)
    if run.code:
        text = f'<font face="Courier">{text}</font>'
    if run.bold:
        text = f"<b>{text}</b>"
    if run.italic:
        text = f"<i>{text}</i>"
    return f'<a href="{escape(run.href)}" color="blue">{text}</a>' if run.href else text


WRITERS: dict[str, Callable[[Sequence[Block]], bytes]] = {
    "html": html_page,
    "docx": docx_page,
    "pdf": pdf_page,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page that is written: its source, where it goes, and how."""

    source: Path
    target: Path
    format: str

    def blocks(self) -> list[Block]:
        return read_blocks(self.source.read_text(encoding="utf-8"))

    def build(self) -> bytes:
        return WRITERS[self.format](self.blocks())


def pages(sources: Path = SOURCES, manual: Path = MANUAL) -> list[Page]:
    """Every page that is written, by name."""
    found = []
    for source in sorted(sources.glob("*.md")):
        name = source.name.removesuffix(".md")
        found.append(Page(source=source, target=manual / name, format=Path(name).suffix.lstrip(".")))
    return found


def main() -> int:
    """Exit code 1 when `--check` finds a page that is not up to date."""
    parser = argparse.ArgumentParser(description="Write the HTML, PDF and DOCX pages of the manual.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    check = parser.parse_args().check
    stale = 0
    for page in pages():
        content = page.build()
        if page.target.exists() and page.target.read_bytes() == content:
            continue
        stale += 1
        sys.stdout.write(f"{'out of date' if check else 'wrote'}: {page.target.relative_to(DOCS)}\n")
        if not check:
            page.target.write_bytes(content)
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
