"""The manual: links resolve, written pages are up to date, no setting, command, route or code is missing."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import docx
import pypdfium2
import pytest
import typer.main
from bs4 import BeautifulSoup

from app.generation.extractive import DEFAULT_MIN_CONFIDENCE
from app.settings import Area, Settings, setting_names
from indexing.chunking import ChunkerSpec
from indexing.errors import LoadErrorCode
from indexing.loaders.registry import load_file

DOCS = Path(__file__).parents[2] / "docs"
MANUAL = DOCS / "manual"
PAGES = sorted(path for path in MANUAL.iterdir() if not path.name.startswith("_"))
_MARKDOWN_LINK = re.compile(r"\]\(([^)\s]+)\)")
# What a format adds to the text of a source: bullets and numbers of lists.
_LIST_MARKS = re.compile(r"[•\d.]*")


def _build_manual() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_manual", DOCS / "build_manual.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


build_manual = _build_manual()
WRITTEN = build_manual.pages()


def text_of(name: str, content: bytes) -> str:
    """The words of a page, by a reader that has nothing to do with the one that wrote it."""
    match Path(name).suffix:
        case ".pdf":
            with pypdfium2.PdfDocument(content) as document:
                return "\n".join(page.get_textpage().get_text_range() for page in document)
        case ".docx":
            document = docx.Document(io.BytesIO(content))
            cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
            return "\n".join([*(paragraph.text for paragraph in document.paragraphs), *cells])
        case ".html":
            return BeautifulSoup(content, "lxml").get_text("")
    return content.decode("utf-8")


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def spaced(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def source_text(name: str) -> str:
    """The Markdown behind a page."""
    source = build_manual.SOURCES / f"{name}.md"
    return (source if source.exists() else MANUAL / name).read_text(encoding="utf-8")


def lines_of(block: object) -> Iterator[str]:
    match block:
        case build_manual.Heading(line=line) | build_manual.Paragraph(line=line):
            yield build_manual.plain(line)
        case build_manual.Listing(items=items):
            yield from (build_manual.plain(item) for item in items)
        case build_manual.Code(text=text):
            yield text
        case build_manual.Table(rows=rows):
            yield from (build_manual.plain(cell) for row in rows for cell in row)


def is_table(block: object) -> bool:
    return isinstance(block, build_manual.Table)


def test_the_manual_has_pages_in_four_formats() -> None:
    by_format = {
        suffix: [page.name for page in PAGES if page.suffix == suffix]
        for suffix in (".md", ".html", ".pdf", ".docx")
    }
    assert len(PAGES) >= 20
    assert len(by_format[".html"]) >= 3
    assert len(by_format[".pdf"]) >= 2
    assert len(by_format[".docx"]) >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_that_exist(page: Path) -> None:
    for target in _MARKDOWN_LINK.findall(source_text(page.name)):
        if "://" not in target:
            assert (MANUAL / target.partition("#")[0]).is_file(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_but_the_first_is_linked_to(page: Path) -> None:
    others = [source_text(other.name) for other in PAGES if other != page]
    assert page == PAGES[0] or any(f"]({page.name})" in text for text in others)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_sentence_stands_on_one_line(page: Path) -> None:
    """A quoted sentence is shown as it stands in the text: no line may end inside one."""
    prose = re.sub(r"```.*?```", "", source_text(page.name), flags=re.DOTALL)
    for line in prose.splitlines():
        if line and line[0] not in "#|-" and not re.match(r"\d+\. ", line):
            assert line.endswith((".", ":")), f"{page.name}: {line}"


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.target.name)
def test_a_written_page_says_what_its_source_says(page: Any) -> None:
    """Holds whichever releases of the libraries wrote the page; `build_manual.py` makes it true again."""
    # Tables last: a reader of DOCX gives them apart from the paragraphs.
    blocks = page.blocks()
    if page.format == "docx":
        blocks.sort(key=is_table)
    left = squeezed(text_of(page.target.name, page.target.read_bytes()))
    if page.format == "html":
        left = left.removeprefix(squeezed(build_manual.title_of(blocks)))
    for line in (line for block in blocks for line in lines_of(block)):
        wanted = squeezed(line)
        between, found, left = left.partition(wanted)
        assert found, f"{page.target.name} lacks: {line}"
        assert _LIST_MARKS.fullmatch(between), f"{page.target.name} has beyond its source: {between}"
    assert not left


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.target.name)
def test_the_same_source_gives_the_same_bytes(page: Any) -> None:
    if page.format == "pdf":
        pytest.importorskip("reportlab", reason="PDF pages are written with footnote[docs]")
    first = page.build()
    assert first == page.build()
    assert squeezed(text_of(page.target.name, first)) == squeezed(
        text_of(page.target.name, page.target.read_bytes())
    )


def test_a_docx_page_has_real_headings() -> None:
    document = docx.Document(str(MANUAL / "20-operations.docx"))
    names = [paragraph.style.name for paragraph in document.paragraphs if paragraph.style is not None]
    styles = [name for name in names if name and name.startswith("Heading")]
    assert styles[0] == "Heading 1"
    assert styles.count("Heading 2") > 5


def test_markdown_without_a_form_in_all_formats_is_refused() -> None:
    with pytest.raises(ValueError, match="no form in all formats"):
        build_manual.read_blocks("# A\n\n> a quotation")


def test_the_settings_page_has_every_setting_with_its_default() -> None:
    rows = dict(
        re.findall(r"^\| `(FOOTNOTE_\w+)` \| (.+?) \|", source_text("16-settings.md"), flags=re.MULTILINE)
    )
    assert list(rows) == list(setting_names())
    for area, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Area):
            for name, inner in field.annotation.model_fields.items():
                variable = f"FOOTNOTE_{area}_{name}".upper()
                assert rows[variable] == _shown(inner.default), variable


def _shown(default: object) -> str:
    if default is None or default == "":
        return "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_threshold_of_confidence_is_the_one_used() -> None:
    assert f"its own threshold of {DEFAULT_MIN_CONFIDENCE}." in source_text(
        "10-abstention-and-confidence.html"
    )


def test_the_sizes_of_chunks_are_the_defaults() -> None:
    page, spec = source_text("05-chunking.md"), ChunkerSpec()
    assert f"A chunk has at most {spec.max_tokens} tokens by default" in page
    assert f"At most {spec.overlap_tokens} tokens are repeated" in page
    assert f"shorter than {spec.min_tokens} tokens share a chunk" in page


def test_only_settings_that_exist_are_named() -> None:
    for page in PAGES:
        named = set(re.findall(r"FOOTNOTE_[A-Z_]+[A-Z]", source_text(page.name)))
        assert named <= set(setting_names()), page.name


def _commands(command: Any, prefix: str) -> Iterator[str]:
    """The names of a command and those below it; typer may bring a click of its own, so no class is named."""
    inner = getattr(command, "commands", None)
    if inner is not None:
        for name, below in inner.items():
            yield from _commands(below, f"{prefix} {name}")
    elif not command.hidden:
        yield prefix


def test_the_command_page_has_every_command_and_no_other() -> None:
    from app.cli import app

    commands = set(_commands(typer.main.get_command(app), "footnote"))
    listed = set(
        re.findall(r"^\| `(footnote [a-z -]*[a-z])[ A-Z…]*` \|", source_text("18-cli.md"), flags=re.MULTILINE)
    )
    assert listed == commands


def test_the_api_page_has_every_route() -> None:
    from app.main import AREAS

    page = source_text("17-http-api.md")
    for area in AREAS:
        for route in area.router.routes:
            path = re.sub(r"\{\w*id\}", "{id}", route.path)
            for method in route.methods - {"HEAD"}:
                assert f"{method} {path}" in page or f"127.0.0.1:8080{path}" in page, f"{method} {path}"


def test_every_code_of_a_file_without_text_is_explained() -> None:
    for name in ("03-ingesting-documents.md", "21-troubleshooting.md"):
        for code in get_args(LoadErrorCode):
            assert f"| `{code}` |" in source_text(name), name


def _questions() -> list[dict[str, str]]:
    lines = (DOCS / "manual_questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("item", _questions(), ids=lambda item: item["page"])
def test_a_golden_answer_stands_on_its_page_and_no_other(item: dict[str, str]) -> None:
    having = [
        page.name for page in PAGES if item["contains"] in spaced(text_of(page.name, page.read_bytes()))
    ]
    assert having == [item["page"]]


@pytest.mark.parametrize("item", _questions(), ids=lambda item: item["page"])
def test_a_golden_answer_stands_in_the_canonical_text_as_it_is(item: dict[str, str]) -> None:
    """So a test of the whole path can look for the fragment in a quote, whatever the format."""
    loaded = load_file(MANUAL / item["page"], filename=item["page"])
    assert item["contains"] in loaded.text
    assert loaded.title


def test_golden_answers_need_every_format() -> None:
    assert {Path(item["page"]).suffix for item in _questions()} == {".md", ".html", ".pdf", ".docx"}
