"""What each format's loader makes of the things only that format has."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime
from pathlib import Path

import docx
import openpyxl
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from indexing.errors import LoadError
from indexing.loaders import LoadLimits, load_file
from indexing.types import LoadedText
from tests.unit.indexing.loaders.documents import epub, open_document, pdf, zip_of


@pytest.fixture
def load(tmp_path: Path):  # type: ignore[no-untyped-def]
    def load(filename: str, content: str | bytes, **limits: int) -> LoadedText:
        path = tmp_path / "blob"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_file(path, filename=filename, limits=LoadLimits(**limits))

    return load


def headings(loaded: LoadedText) -> list[tuple[int, str]]:
    return [(heading.level, heading.title) for heading in loaded.headings]


def blocks(loaded: LoadedText) -> list[tuple[str, str]]:
    return [(block.kind, loaded.text[block.start : block.end]) for block in loaded.blocks]


def test_markdown_keeps_its_source(load) -> None:
    source = (
        "Intro\n\nSet *next*\n========\n\n- a\n- b\n\n"
        "```\n# no heading\n```\n\n| x | y |\n|---|---|\n| 1 | 2 |\n"
    )
    loaded = load("a.md", source)
    assert loaded.text == source
    assert headings(loaded) == [(1, "Set next")]
    assert [kind for kind, _ in blocks(loaded)] == ["list", "code", "table"]
    assert blocks(loaded)[1][1] == "```\n# no heading\n```"


def test_markdown_front_matter_becomes_metadata(load) -> None:
    loaded = load("a.md", "---\ntitle: 'The title'\ntags:\n  - x\n  - y\n---\n# Other\nText")
    assert loaded.title == "The title"
    assert loaded.metadata == {"title": "The title", "tags": ["x", "y"]}
    assert loaded.text == "# Other\nText"


def test_rst_levels_go_by_first_appearance(load) -> None:
    source = (
        "=====\nTitle\n=====\n\nOne\n---\n\nCode::\n\n    >>> x\n    ---\n\nUnder ``one``\n~~~~~~~~~~~~~\n\n"
        "Two\n---\n\n.. code-block:: python\n\n   pass\n\n- item\n  goes on\n\n=== ===\na   b\n"
        "=== ===\n1   2\n=== ===\n"
    )
    loaded = load("a.rst", source)
    assert loaded.text == source
    assert headings(loaded) == [(1, "Title"), (2, "One"), (3, "Under one"), (2, "Two")]
    assert [(kind, text.split("\n")[0]) for kind, text in blocks(loaded)] == [
        ("code", ">>> x"),
        ("code", ".. code-block:: python"),
        ("list", "- item"),
        ("table", "=== ==="),
    ]


def test_rst_directives_open_no_file(load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("very secret")
    loaded = load(
        "a.rst", f".. include:: {tmp_path}/secret\n\n.. raw:: html\n   :file: {tmp_path}/secret\n\nText"
    )
    assert "very secret" not in loaded.text


def test_asciidoc(load) -> None:
    loaded = load(
        "a.adoc", "= Title\n:author: A\n\n== Part\n\n----\n== no heading\n----\n\n|===\n|a |b\n|===\n"
    )
    assert headings(loaded) == [(1, "Title"), (2, "Part")]
    assert [kind for kind, _ in blocks(loaded)] == ["code", "table"]
    assert loaded.metadata["author"] == "A"


def test_org(load) -> None:
    loaded = load(
        "a.org", "#+TITLE: T\n* TODO One :tag:\n** Two\n#+begin_src sh\n* no\n#+end_src\n| a | b |\n- x\n"
    )
    assert loaded.title == "T"
    assert headings(loaded) == [(1, "One"), (2, "Two")]
    assert [kind for kind, _ in blocks(loaded)] == ["code", "table", "list"]


def test_latex(load) -> None:
    loaded = load(
        "a.tex",
        r"\documentclass{article} % comment" "\n"
        r"\newcommand{\x}{y}\title{On \emph{ducks}}\begin{document}\maketitle"
        r"\section{First} Caf\'e costs 5\% \cite{k}, na\"{\i}ve and \c{c}a, $a_1$. \caption{A caption}"
        r"\begin{itemize}\item one \item two\end{itemize}"
        r"\begin{tabular}{l|r} a & b \\ \hline 1 & 2 \\ \end{tabular}"
        r"\subsection{Inner} End.\end{document} never",
    )  # fmt: skip
    assert headings(loaded) == [(1, "On ducks"), (2, "First"), (3, "Inner")]
    assert "Café costs 5% [k], naïve and ça, $a_1$." in loaded.text
    assert blocks(loaded) == [("list", "- one\n- two"), ("table", "a | b\n1 | 2")]
    assert "comment" not in loaded.text
    assert "never" not in loaded.text


def test_html_leaves_out_what_no_reader_reads(load) -> None:
    loaded = load(
        "a.html",
        "<html><head><title>T</title><script>s()</script></head><body><nav>menu</nav><p>One<br>"
        "two <b>bo</b>ld</p>"
        "<p style='display: none'>orders</p><ul><li>a<ul><li>b</ul><li>c</ul><pre>x\n  y</pre>"
        "<footer>foot</footer>",
    )
    assert loaded.text == "One\ntwo bold\n\n- a\n  - b\n- c\n\nx\n  y"
    assert blocks(loaded) == [("list", "- a\n  - b\n- c"), ("code", "x\n  y")]
    assert loaded.title == "T"


def test_html_page_of_nothing_but_navigation_keeps_it(load) -> None:
    assert load("a.html", "<body><nav><p>menu</p><p hidden>orders</p></nav></body>").text == "menu"


def test_html_tables(load) -> None:
    data = "<table><tr><th>Year<th colspan=2>Sum<tr><td>2021<td>$<td>(5<td>)</table>"
    layout = "<table><tr><td><h2>Head</h2><p>one</p></td><td>two</td></tr></table>"
    bullets = "<table><tr><td>•</td><td>point</td></tr></table>"
    loaded = load("a.html", f"<p>before</p>{data}{layout}{bullets}")
    assert loaded.text == "before\n\nYear | Sum\n2021 | $(5)\n\nHead\n\none\n\ntwo\n\n• point"
    assert blocks(loaded) == [("table", "Year | Sum\n2021 | $(5)"), ("list", "• point")]


def test_html_prefers_the_main_part(load) -> None:
    text = "All that matters stands here. " * 3
    assert load("a.html", f"<div>Sidebar</div><main><p>{text}</p></main><div>More</div>").text == text.strip()


@pytest.mark.parametrize("depth", [300, 5000])
def test_html_nested_without_end(load, depth: int) -> None:
    assert (
        load("a.html", "<div>" * depth + "bottom" + "</div>" * depth + "<p>after</p>").text
        == "bottom\n\nafter"
    )


def test_html_charset_of_the_head(load) -> None:
    page = "<meta charset=windows-1251><p>Привет</p>".encode("cp1251")
    assert load("a.html", page).text == "Привет"


def test_xml_entities_are_neither_read_nor_expanded(load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("very secret")
    loaded = load(
        "a.xml", f"<!DOCTYPE a [<!ENTITY e SYSTEM 'file://{tmp_path}/secret'>]><a><p>words &e; end</p></a>"
    )
    assert "secret" not in loaded.text
    entities = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 9))
    try:
        bomb = load("a.xml", f"<!DOCTYPE a [<!ENTITY e0 'ha'>{entities}]><a><p>x &e8;</p></a>")
    except LoadError as error:
        assert error.code in ("corrupt_file", "too_large")  # noqa: PT017 - either a refusal or no expansion
    else:
        assert len(bomb.text) < 100


def test_journal_article(load) -> None:
    loaded = load(
        "a.nxml",
        "<article><front><article-meta><title-group><article-title>On herons</article-title></title-group>"
        "<contrib-group><contrib contrib-type='author'><name><surname>Ash</surname><given-names>"
        "B</given-names>"
        "</name></contrib></contrib-group><abstract><p>Short.</p></abstract></article-meta></front><body>"
        "<sec><title>Methods</title><p>We <italic>looked</italic> at <sup>3</sup>.</p><sec><title>"
        "Sites</title>"
        "<p>Ponds.</p></sec></sec></body><back><ref-list><title>References</title><ref><name>"
        "<surname>Doe</surname>"
        "<given-names>J</given-names></name><year>1999</year></ref></ref-list></back></article>",
    )
    assert loaded.title == "On herons"
    assert headings(loaded) == [
        (1, "On herons"), (2, "Abstract"), (2, "Methods"), (3, "Sites"), (2, "References"),
    ]  # fmt: skip
    assert loaded.metadata["authors"] == ["B Ash"]
    assert "We looked at 3." in loaded.text
    assert "- Doe J 1999" in loaded.text


def word(build) -> bytes:
    document = docx.Document()
    build(document)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def test_word_numbering_tracked_changes_and_controls(load) -> None:
    def build(document) -> None:
        for text in ("one", "two"):
            document.add_paragraph(text, style="List Number")
        body = document.element.body
        for markup in (
            "<w:p {0}><w:r><w:t>kept </w:t></w:r><w:ins><w:r><w:t>added</w:t></w:r></w:ins>"
            "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>",
            "<w:sdt {0}><w:sdtContent><w:p><w:r><w:t>in a control</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        ):
            body.insert(len(body) - 1, parse_xml(markup.format(nsdecls("w"))))

    loaded = load("a.docx", word(build))
    assert loaded.text == "1. one\n2. two\n\nkept added\n\nin a control"
    assert blocks(loaded) == [("list", "1. one\n2. two")]


def test_word_merged_cells_are_not_repeated(load) -> None:
    def build(document) -> None:
        table = document.add_table(rows=2, cols=2)
        table.cell(0, 0).merge(table.cell(1, 0)).text = "tall"
        table.cell(0, 1).text, table.cell(1, 1).text = "a", "b"

    assert load("a.docx", word(build)).text.strip() == "tall | a\n | b"


def test_workbook_shows_what_cells_show(load) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["When", "Share", "Sum", "Yes"])
    sheet.append([date(2024, 2, 29), 0.125, 0.1 + 0.2, True])
    sheet.append([datetime(2024, 2, 29, 13, 30), None, 1e6])
    sheet["B2"].number_format = "0.0%"
    sheet["A6"] = "apart"
    file = io.BytesIO()
    book.save(file)
    loaded = load("a.xlsx", file.getvalue())
    assert loaded.text == (
        "Sheet\n\nWhen | Share | Sum | Yes\n2024-02-29 | 12.5% | 0.3 | TRUE\n"
        "2024-02-29 13:30:00 |  | 1000000\n\napart"
    )


def test_spreadsheet_repeats_within_reason(load) -> None:
    rows = (
        '<tb:table tb:name="S"><tb:table-row><tb:table-cell tb:number-columns-repeated="2"><t:p>'
        "x</t:p></tb:table-cell>"
        '</tb:table-row><tb:table-row tb:number-rows-repeated="1048576"><tb:table-cell '
        'tb:number-columns-repeated="16384"/></tb:table-row></tb:table>'
    )
    assert load("a.ods", open_document("spreadsheet", rows)).text == "S\n\nx | x"


def test_pdf_joins_lines_and_drops_running_lines(load) -> None:
    pages = [
        f"Annual report, page {number}\nThe {bird} came in the first week of the new year and\n"
        f"stayed until the {number} of March, when the exam-\nple ended."
        for number, bird in enumerate(("heron", "bittern", "egret", "crane"), start=1)
    ]
    loaded = load("a.pdf", pdf(*pages))
    assert "Annual report" not in loaded.text
    assert [page.page for page in loaded.pages] == [1, 2, 3, 4]
    second = loaded.text[loaded.pages[1].start : loaded.pages[1].end]
    assert second == (
        "The bittern came in the first week of the new year and "
        "stayed until the 2 of March, when the example ended."
    )


def test_pdf_without_text_says_what_it_needs(load) -> None:
    with pytest.raises(LoadError, match="OCR") as caught:
        load("a.pdf", pdf(""))
    assert caught.value.code == "empty_file"


def test_delimited_long_rows_become_records(load) -> None:
    note = "word " * 100
    loaded = load("a.csv", f"id;note\n7;{note}\n")
    assert loaded.text == f"id: 7\nnote: {note.strip()}"
    assert [kind for kind, _ in blocks(loaded)] == ["record"]


def test_delimited_short_rows_are_a_table(load) -> None:
    loaded = load("a.csv", 'a,b\n"x, y",2\n')
    assert blocks(loaded) == [("table", "a | b\nx, y | 2")]


def test_json_lines_are_records(load) -> None:
    loaded = load(
        "a.jsonl",
        '{"_id": "d1", "title": "Herons", "text": "They wait.", "metadata": {"year": 1999}}\n'
        '{"level": "info", "tags": ["a", "b"], "none": null}\nnot json\n',
    )
    assert (
        loaded.text
        == "Herons\n\nThey wait.\n_id: d1\nmetadata.year: 1999\n\nlevel: info\ntags: a, b\nnot json"
    )
    assert headings(loaded) == [(2, "Herons")]
    assert [kind for kind, _ in blocks(loaded)] == ["record", "record"]


def test_mail_chooses_plain_text_and_names_attachments(load) -> None:
    loaded = load(
        "a.eml",
        "From: A <a@example.org>\nTo: b@example.org\nSubject: =?utf-8?q?Caf=C3=A9?=\nMIME-Version: 1.0\n"
        "Content-Type: multipart/mixed; boundary=o\n\n--o\n"
        "Content-Type: multipart/alternative; boundary=i\n\n"
        "--i\nContent-Type: text/plain\n\nplain words\n--i\nContent-Type: text/html\n\n<p>"
        "html words</p>\n--i--\n"
        "--o\nContent-Type: text/plain; name=notes.txt\n"
        "Content-Disposition: attachment; filename=notes.txt\n\n"
        "attached words\n--o\nContent-Type: image/png; name=a.png\n\nxx\n--o--\n",
    )
    assert loaded.title == "Café"
    assert loaded.metadata["attachments"] == ["notes.txt", "a.png"]
    assert "plain words" in loaded.text
    assert "html words" not in loaded.text
    assert headings(loaded) == [(1, "Café"), (2, "notes.txt")]


def test_subtitles_drop_times_and_name_speakers(load) -> None:
    loaded = load(
        "a.vtt",
        "WEBVTT\n\nNOTE x\n\n1\n00:00.000 --> 00:01.000\n<v Ann>So <i>it</i> is,\n\n00:01.000 --> "
        "00:02.000\n<v Ann>then.\n\n"
        "00:02.000 --> 00:03.000\n<v Bob>Yes &amp; no.\n",
    )
    assert loaded.text == "Ann: So it is, then.\n\nBob: Yes & no."


def test_form_feeds_part_pages(load) -> None:
    loaded = load("a.txt", "one\f\ftwo\n")
    assert [(page.page, loaded.text[page.start : page.end]) for page in loaded.pages] == [
        (1, "one"),
        (3, "two"),
    ]


def test_digital_lock_is_an_encrypted_file(load) -> None:
    with zipfile.ZipFile(io.BytesIO(epub())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["META-INF/encryption.xml"] = b"<e><EncryptionMethod Algorithm='http://example.org/lock'/></e>"
    with pytest.raises(LoadError) as caught:
        load("a.epub", zip_of(members))
    assert caught.value.code == "encrypted_file"


def test_container_of_lies_is_corrupt(load) -> None:
    data = bytearray(zip_of({"word/document.xml": b"<a>" + b" " * 100_000 + b"</a>"}))
    size = (100_007).to_bytes(4, "little")
    for _ in range(data.count(size)):
        place = data.find(size)
        data[place : place + 4] = (50).to_bytes(4, "little")  # declares less than it holds
    with pytest.raises(LoadError) as caught:
        load("a.docx", bytes(data))
    assert caught.value.code == "corrupt_file"


def test_deep_nesting_is_corrupt_not_a_crash(load) -> None:
    for filename, content in (("a.json", "[" * 100_000), ("a.xml", "<a>" * 10_000), ("a.docx", None)):
        data = content or zip_of({"word/document.xml": "<a>" * 10_000 + "</a>" * 10_000})
        with pytest.raises(LoadError) as caught:
            load(filename, data)
        assert caught.value.code in ("corrupt_file", "too_large")
