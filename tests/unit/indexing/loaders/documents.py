"""Small documents of every format, built here; each says `WORDS` and most have a heading `HEADING`."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable

import docx
import openpyxl
import pptx

HEADING = "Winter care"
WORDS = "The heron waits beside the frozen pond."


def zip_of(members: dict[str, str | bytes]) -> bytes:
    """A zip file with these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def word_document() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Herons"
    document.add_heading(HEADING, 1)
    document.add_paragraph(WORDS)
    document.add_paragraph("first", style="List Bullet")
    document.add_paragraph("second", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for row, cells in enumerate((("Bird", "Count"), ("Heron", "3"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def presentation() -> bytes:
    slides = pptx.Presentation()
    for title, body in ((HEADING, WORDS), ("Second slide", "Another line.")):
        slide = slides.slides.add_slide(slides.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = body
    slides.slides[1].notes_slide.notes_text_frame.text = "Speak slowly."
    file = io.BytesIO()
    slides.save(file)
    return file.getvalue()


def workbook() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = HEADING
    sheet.append(["Note", "Amount"])
    sheet.append([WORDS, 0.1 + 0.2])
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def pdf(*pages: str, size: int = 12) -> bytes:
    """One line of text on each page; the first line of a page that has several stands above the others."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>"
        % (b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(len(pages))), len(pages)),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, text in enumerate(pages):
        lines = b"".join(
            b"BT /F1 %d Tf 72 %d Td (%s) Tj ET\n" % (size, 720 - 14 * n, line.encode("latin-1"))
            for n, line in enumerate(text.split("\n"))
        )
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>"
            b"/Contents %d 0 R>>" % (5 + 2 * number)
        )
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(lines), lines))
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + end


OFFICE = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"
TEXT = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"
TABLE = "urn:oasis:names:tc:opendocument:xmlns:table:1.0"
DRAW = "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"


def open_document(kind: str, body: str) -> bytes:
    content = (
        f'<o:document-content xmlns:o="{OFFICE}" xmlns:t="{TEXT}" xmlns:tb="{TABLE}" xmlns:d="{DRAW}">'
        f"<o:body><o:{kind}>{body}</o:{kind}></o:body></o:document-content>"
    )
    return zip_of({"mimetype": f"application/vnd.oasis.opendocument.{kind}", "content.xml": content})


def epub() -> bytes:
    container = '<container><rootfiles><rootfile full-path="b/p.opf"/></rootfiles></container>'
    package = (
        "<package><metadata><title>Herons</title></metadata><manifest>"
        '<item id="a" href="one.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="a"/></spine></package>'
    )
    chapter = (
        f"<html xmlns='http://www.w3.org/1999/xhtml'><body><h1>{HEADING}</h1><p>{WORDS}</p></body></html>"
    )
    return zip_of(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "b/p.opf": package,
            "b/one.xhtml": chapter,
        }
    )


def ole(streams: dict[str, bytes]) -> bytes:
    """An OLE container with streams at its root, each padded to whole sectors outside the mini stream."""
    sector, end, free = 512, 0xFFFFFFFE, 0xFFFFFFFF
    contents = [data.ljust(max(4096, -(-len(data) // sector) * sector), b"\0") for data in streams.values()]
    n_directory = -(-(len(streams) + 1) * 128 // sector)
    table = [0xFFFFFFFD]
    table += [*range(2, 1 + n_directory), end]
    starts = []
    for data in contents:
        starts.append(len(table))
        table += [*range(len(table) + 1, len(table) + len(data) // sector), end]
    table += [free] * (128 - len(table))

    def entry(name: str, kind: int, child: int, right: int, start: int, length: int) -> bytes:
        encoded = name.encode("utf-16-le")
        head = encoded.ljust(64, b"\0") + struct.pack(
            "<HBBIII", len(encoded) + 2, kind, 1, free, right, child
        )
        return head + b"\0" * 36 + struct.pack("<IQ", start, length)

    directory = entry("Root Entry", 5, 1, free, end, 0)
    for number, (name, data) in enumerate(zip(streams, contents, strict=True), start=1):
        right = number + 1 if number < len(streams) else free
        directory += entry(name, 2, free, right, starts[number - 1], len(data))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 16
    header += struct.pack("<HHHHH6xIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, end, 0, end, 0)
    header += struct.pack("<109I", 0, *[free] * 108)
    return (
        header
        + struct.pack("<128I", *table)
        + directory.ljust(n_directory * sector, b"\0")
        + b"".join(contents)
    )


def word_97(text: str) -> bytes:
    encoded = text.encode("cp1252")
    document = bytearray(0x800)
    struct.pack_into("<HH", document, 0, 0xA5EC, 0xC1)
    struct.pack_into("<H", document, 0x0A, 0x0200)
    clx = (
        b"\x02" + struct.pack("<I", 16) + struct.pack("<IIHIH", 0, len(encoded), 0, 0x40000000 | 0x800 * 2, 0)
    )
    struct.pack_into("<II", document, 0x01A2, 0, len(clx))
    return ole({"WordDocument": bytes(document) + encoded, "1Table": clx})


def powerpoint_97() -> bytes:
    def record(kind: int, body: bytes, *, container: bool = False, instance: int = 0) -> bytes:
        return struct.pack("<HHI", instance << 4 | (0xF if container else 0), kind, len(body)) + body

    outline = record(0x03F3, struct.pack("<I", 7) + b"\0" * 16)
    for kind, text in ((0, HEADING), (1, WORDS)):
        outline += record(0x0F9F, struct.pack("<I", kind)) + record(0x0FA0, text.encode("utf-16-le"))
    document = record(0x03E8, record(0x0FF0, outline, container=True), container=True)
    return ole({"PowerPoint Document": document})


def outlook_message() -> bytes:
    return ole(
        {
            "__properties_version1.0": b"",
            "__substg1.0_0037001F": HEADING.encode("utf-16-le"),
            "__substg1.0_1000001F": WORDS.encode("utf-16-le"),
        }
    )


def excel_97() -> bytes:
    """A BIFF 5 stream with one sheet: its name, and one label in cell A1."""

    def record(kind: int, body: bytes) -> bytes:
        return struct.pack("<HH", kind, len(body)) + body

    def begin(kind: int) -> bytes:
        return record(0x0809, struct.pack("<HHHH", 0x0500, kind, 0, 0))

    name = HEADING.encode()
    bound = struct.pack("<IBBB", 0, 0, 0, len(name)) + name
    length = len(begin(5)) + 4 + len(bound) + 4
    bound = struct.pack("<I", length) + bound[4:]
    words = WORDS.encode()
    label = record(0x0204, struct.pack("<HHHH", 0, 0, 0, len(words)) + words)
    stream = begin(5) + record(0x0085, bound) + record(0x000A, b"")
    return ole({"Book": stream + begin(0x10) + label + record(0x000A, b"")})


def notebook() -> bytes:
    cells = [
        {"cell_type": "markdown", "source": [f"# {HEADING}\n", WORDS]},
        {"cell_type": "code", "source": ["print(1)"], "outputs": [{"text": ["1\n"]}]},
    ]
    return json.dumps({"cells": cells, "nbformat": 4}).encode()


def _text(template: str) -> Callable[[], bytes]:
    return lambda: template.replace("HEADING", HEADING).replace("WORDS", WORDS).encode()


ODT_BODY = f'<t:h t:outline-level="1">{HEADING}</t:h><t:p>{WORDS}</t:p>'
ODP_BODY = f'<d:page><d:frame d:class="title"><d:text-box><t:p>{HEADING}</t:p></d:text-box></d:frame><d:frame><d:text-box><t:p>{WORDS}</t:p></d:text-box></d:frame></d:page>'  # noqa: E501
ODS_BODY = f'<tb:table tb:name="{HEADING}"><tb:table-row><tb:table-cell><t:p>{WORDS}</t:p></tb:table-cell></tb:table-row></tb:table>'  # noqa: E501

# For each format: a file name, the bytes, and whether the format has headings.
DOCUMENTS: dict[str, tuple[str, Callable[[], bytes], bool]] = {
    "txt": ("a.txt", _text("WORDS\n"), False),
    "code": ("a.py", _text("# WORDS\nprint(1)\n"), False),
    "md": ("a.md", _text("# HEADING\n\nWORDS\n"), True),
    "rst": ("a.rst", _text("HEADING\n===========\n\nWORDS\n"), True),
    "asciidoc": ("a.adoc", _text("= HEADING\n\nWORDS\n"), True),
    "org": ("a.org", _text("* HEADING\nWORDS\n"), True),
    "tex": (
        "a.tex",
        _text("\\documentclass{article}\n\\begin{document}\\section{HEADING}\nWORDS\n\\end{document}"),
        True,
    ),
    "html": ("a.html", _text("<html><body><h1>HEADING</h1><p>WORDS</p></body></html>"), True),
    "xml": ("a.xml", _text("<?xml version='1.0'?><doc><title>HEADING</title><p>WORDS</p></doc>"), True),
    "epub": ("a.epub", epub, True),
    "pdf": ("a.pdf", lambda: pdf(WORDS), False),
    "docx": ("a.docx", word_document, True),
    "pptx": ("a.pptx", presentation, True),
    "xlsx": ("a.xlsx", workbook, True),
    "odt": ("a.odt", lambda: open_document("text", ODT_BODY), True),
    "odp": ("a.odp", lambda: open_document("presentation", ODP_BODY), True),
    "ods": ("a.ods", lambda: open_document("spreadsheet", ODS_BODY), True),
    "csv": ("a.csv", _text("id,note\n1,WORDS\n"), False),
    "tsv": ("a.tsv", _text("id\tnote\n1\tWORDS\n"), False),
    "json": ("a.json", _text('[{"title": "HEADING", "text": "WORDS"}]'), True),
    "jsonl": ("a.jsonl", _text('{"_id": "1", "title": "HEADING", "text": "WORDS"}\n'), True),
    "ipynb": ("a.ipynb", notebook, True),
    "eml": ("a.eml", _text("From: a@example.org\nTo: b@example.org\nSubject: HEADING\n\nWORDS\n"), True),
    "msg": ("a.msg", outlook_message, True),
    "rtf": ("a.rtf", _text("{\\rtf1\\ansi WORDS\\par}"), False),
    "vtt": ("a.vtt", _text("WEBVTT\n\n00:01.000 --> 00:02.000\nWORDS\n"), False),
    "srt": ("a.srt", _text("1\n00:00:01,000 --> 00:00:02,000\nWORDS\n"), False),
    "doc": ("a.doc", lambda: word_97(f"{WORDS}\r"), False),
    "ppt": ("a.ppt", powerpoint_97, True),
    "xls": ("a.xls", excel_97, True),
}
