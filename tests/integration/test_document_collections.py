"""The loaders on the development collections: ordinary documents, and files made to break readers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from indexing.errors import LoadError
from indexing.loaders import LoaderPool, LoadLimits
from indexing.types import LoadedText
from tests.shared_data import require_shared
from tests.unit.indexing.loaders.invariants import assert_invariants

pytestmark = pytest.mark.shared

MIN_SHARE_WITH_TEXT = 0.97
MIN_MEDIAN_RECALL = 0.9
WORD = re.compile(r"[^\W_]{2,}")
MARKUP = re.compile(r"<!--.{0,40}?-->|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|&\w+;|https?://\S+")

Results = dict[str, LoadedText | LoadError]


def manifest(collection: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (collection / "manifest.jsonl").read_text().splitlines()]


def load_all(collection: Path) -> Results:
    results: Results = {}
    with LoaderPool(limits=LoadLimits(seconds=30)) as pool:
        for entry in manifest(collection):
            path = collection / entry["file"]
            try:
                loaded = pool.load(path, filename=path.name)
                assert_invariants(loaded)
                results[entry["file"]] = loaded
            except LoadError as error:
                results[entry["file"]] = error
    return results


@pytest.fixture(scope="module")
def mixed() -> Results:
    return load_all(require_shared("docs-mixed-a"))


@pytest.fixture(scope="module")
def nasty() -> Results:
    return load_all(require_shared("docs-nasty-a"))


def words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))


def test_ordinary_documents_give_text(mixed: Results) -> None:
    failures = {name: result for name, result in mixed.items() if isinstance(result, LoadError)}
    assert len(failures) <= (1 - MIN_SHARE_WITH_TEXT) * len(mixed), failures
    crashes = {"loader_crashed", "loader_timeout", "loader_memory"}
    assert not {name for name, error in failures.items() if error.code in crashes}


def test_words_agree_with_another_converter(mixed: Results, record_property: Any) -> None:
    recalls = {}
    for path in sorted(require_shared("docs-mixed-a", "reference").rglob("*.md")):
        name = "files/" + str(path.relative_to(path.parents[1])).removesuffix(".md")
        expected, loaded = words(MARKUP.sub(" ", path.read_text())), mixed[name]
        if expected and isinstance(loaded, LoadedText):
            recalls[name] = len(expected & words(f"{loaded.title} {loaded.text[:]}")) / len(expected)
    worst = sorted((recall, name) for name, recall in recalls.items())[:8]
    record_property("worst", worst)
    print("median", median(recalls.values()), "worst", worst)  # noqa: T201 - seen with -s
    assert len(recalls) >= 50
    assert median(recalls.values()) >= MIN_MEDIAN_RECALL, worst


@pytest.mark.parametrize(
    ("name", "n_pages"),
    [("files/unstructured/DA-619p.pdf", 619), ("files/docling-pdf/multi_page.pdf", 5)],
)
def test_every_page_is_mapped(mixed: Results, name: str, n_pages: int) -> None:
    loaded = mixed[name]
    assert isinstance(loaded, LoadedText)
    assert [page.page for page in loaded.pages] == list(range(1, n_pages + 1))


def test_sections_of_an_enhancement_proposal(mixed: Results) -> None:
    loaded = mixed["files/peps/pep-0634.rst"]
    assert isinstance(loaded, LoadedText)
    assert loaded.title == "Structural Pattern Matching: Specification"
    headings = [(heading.level, heading.title) for heading in loaded.headings]
    assert headings[:4] == [
        (1, "Abstract"),
        (1, "Syntax and Semantics"),
        (2, "Overview and Terminology"),
        (2, "The Match Statement"),
    ]
    code = [loaded.text[block.start : block.end] for block in loaded.blocks if block.kind == "code"]
    assert any(text.lstrip().startswith("match_stmt:") for text in code)


def test_hostile_files_do_what_is_expected(nasty: Results) -> None:
    faults = []
    for entry in manifest(require_shared("docs-nasty-a")):
        result = nasty[entry["file"]]
        faults += [f"{entry['file']}: {fault}" for fault in disagreements(entry, result)]
    assert not faults


def disagreements(entry: dict[str, Any], result: LoadedText | LoadError) -> list[str]:
    """How a result differs from what the manifest expects of the file."""
    is_error = isinstance(result, LoadError)
    faults = []
    if entry["expect"] in ("error", "error-without-password") and not is_error:
        faults.append("gave text")
    if entry["expect"] == "text" and is_error:
        faults.append(f"gave {result!r}")
    if entry["expect"] == "error-or-empty" and not is_error:
        faults.append("gave text")
    if entry["kind"] == "encrypted" and is_error and result.code != "encrypted_file":
        faults.append(f"gave {result.code}")
    if is_error and result.code in ("loader_crashed", "loader_timeout", "loader_memory"):
        faults.append(f"gave {result.code}")
    if isinstance(result, LoadedText):
        faults += [f"lacks {text!r}" for text in entry.get("contains", []) if text not in result.text[:]]
        faults += [
            f"contains {text!r}" for text in entry.get("must_not_contain", []) if text in result.text[:]
        ]
        if "pages" in entry and len(result.pages) != entry["pages"]:
            faults.append(f"has {len(result.pages)} pages")
    if "must_not_write" in entry and Path(entry["must_not_write"]).exists():
        faults.append(f"wrote {entry['must_not_write']}")
    return faults
