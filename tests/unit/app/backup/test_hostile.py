"""Archives whose checksums agree and whose contents do not: refused by name, and nothing is touched."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from app.backup import loading, restoring
from app.backup.errors import ArchiveDamaged, ArchiveNewer, ArchiveUnknown
from app.db import migration
from app.db.engine import create_engine
from app.services import Services
from tests.service import settings_for
from tests.unit.app.backup.conftest import (
    Edit,
    edit_json,
    edit_rows,
    edited,
    opened,
    pack,
    restore,
    submit,
    unpack,
)


def every(column: str, value: object) -> Callable[[list[str], list[list[object]]], None]:
    """Sets a column of every row."""

    def edit(columns: list[str], rows: list[list[object]]) -> None:
        for row in rows:
            row[columns.index(column)] = value

    return edit


def file_name(contents: dict[str, bytes]) -> str:
    return next(name for name in contents if name.startswith("files/"))


def swap_files(contents: dict[str, bytes]) -> None:
    one, other = [name for name in contents if name.startswith("files/") and not name.endswith(".gz")][:2]
    contents[one], contents[other] = contents[other], contents[one]


def pack_file(contents: dict[str, bytes]) -> None:
    """The file becomes a bomb: what comes out is longer than the document says."""
    name = next(name for name in contents if name.startswith("files/") and not name.endswith(".gz"))
    renamed = {
        (f"{key}.gz" if key == name else key): (gzip.compress(value * 3) if key == name else value)
        for key, value in contents.items()
    }
    contents.clear()
    contents.update(renamed)


def rename(old: str, new: str) -> Edit:
    def edit(contents: dict[str, bytes]) -> None:
        items = [(name.replace(old, new), data) for name, data in contents.items()]
        contents.clear()
        contents.update(items)

    return edit


def move_to_end(start: str) -> Edit:
    def edit(contents: dict[str, bytes]) -> None:
        for name in [name for name in contents if name.startswith(start)]:
            contents[name] = contents.pop(name)

    return edit


def add(name: str, data: bytes = b"x") -> Edit:
    return lambda contents: contents.update({name: data})


def drop_a_document(contents: dict[str, bytes]) -> None:
    """In a way that the counts agree with."""
    edit_rows("documents", lambda _, rows: rows.pop())(contents)
    counts = json.loads(contents["manifest.json"])["tables"]
    edit_json("manifest.json", tables=counts | {"documents": counts["documents"] - 1})(contents)


def lone_bytes(contents: dict[str, bytes]) -> None:
    items = list(contents.items())
    at = next(
        index for index, (name, _) in enumerate(items) if name.startswith("tables/vectors/000000.jsonl")
    )
    items.insert(at + 1, ("tables/vectors/000001.bin", b"x"))
    contents.clear()
    contents.update(items)


HOSTILE = {
    "no document row": (drop_a_document, "belongs to a row of `documents` that is missing|refuses a row"),
    "a row less": (edit_rows("vectors", lambda _, rows: rows.pop()), "more bytes than the rows"),
    "a change less": (edit_rows("changes", lambda _, rows: rows.pop()), "`changes` has 7 rows where 8"),
    "a row twice": (edit_rows("jobs", lambda _, rows: rows.append(rows[0])), "refuses a row"),
    "a text for a number": (edit_rows("documents", every("n_bytes", "1")), "line 2: column `n_bytes` is no"),
    "a number for a text": (edit_rows("chunks", every("text", 1)), "column `text` is no text"),
    "NUL": (edit_rows("documents", every("source", "a\0b")), "column `source` contains a NUL"),
    "no value": (edit_rows("jobs", every("status", None)), "column `status` has no value"),
    "a path for a hash": (edit_rows("revisions", every("content_hash", "../../x")), "a hash is not one"),
    "a path for a document": (edit_rows("documents", every("content_hash", "/etc/x")), "a hash is not one"),
    "an unknown column": (
        edit_rows("jobs", lambda columns, _: columns.append("more")),
        "columns are not those",
    ),
    "a column less": (edit_rows("jobs", lambda columns, _: columns.pop()), "columns are not those"),
    "a column twice": (
        edit_rows("jobs", lambda columns, _: columns.__setitem__(0, "kind")),
        "columns are not those",
    ),
    "an unknown table": (rename("tables/jobs/", "tables/robots/"), "has no table `robots`"),
    "the schema's own table": (rename("tables/jobs/", "tables/alembic_version/"), "has no table `alembic_"),
    "a part is left out": (rename("tables/jobs/000000", "tables/jobs/000001"), "not in its place"),
    "rows after files": (move_to_end("tables/chunks"), "not in its place"),
    "a table in two places": (
        lambda contents: contents.update({"tables/collections/000000.jsonl": b"[]\n"}),
        "two places|not in its place",
    ),
    "bytes without rows": (lone_bytes, "stands where rows of `vectors` were to come"),
    "a file of no document": (
        lambda contents: contents.update({f"files/ff/ff{'0' * 62}": b"x"}),
        "belongs to no document|not in its place",
    ),
    "a file less": (lambda contents: contents.pop(file_name(contents)), "5 files where 6"),
    "files swapped": (swap_files, "is not the file that it is named after"),
    "a longer file": (pack_file, "is not the file that it is named after"),
    "another file": (add("etc/passwd"), "no backup has a file named etc/passwd"),
    "no manifest": (lambda contents: contents.pop("manifest.json"), "has no manifest.json"),
    "another manifest": (edit_json("manifest.json", header={}), "cannot be read"),
    "a manifest that is none": (lambda contents: contents.update({"manifest.json": b"[]"}), "cannot be read"),
    "counts that are none": (edit_json("manifest.json", tables={"jobs": "8"}), "cannot be read"),
    "tables left out": (edit_json("manifest.json", left_out={"jobs": "no room"}), "tables are not those"),
    "a missing file that is not": (edit_json("manifest.json", n_files=5), "6 files where 5"),
    "missing files named": (edit_json("manifest.json", file_bytes=0), "files"),
}


def state_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith((".lock", "footnote.db-"))
    }


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a document of its own."""
    home = tmp_path_factory.mktemp("hostile") / "home"
    with opened(settings_for(home, "")) as services:
        submit(services, "mine.txt", "This text stays.")
    return home


@pytest.mark.parametrize(("edit", "said"), HOSTILE.values(), ids=HOSTILE)
def test_contents_that_do_not_agree_are_refused_and_nothing_is_touched(
    archive: Path, target: Path, tmp_path: Path, edit: Edit, said: str
) -> None:
    bad = edited(archive, tmp_path / "bad.tar", edit)
    with bad.open("rb") as source, pytest.raises(ArchiveDamaged, match=said):
        restoring.verify(source)
    fresh = settings_for(tmp_path / "fresh", "")
    with pytest.raises(ArchiveDamaged, match=said):
        restore(fresh, bad)
    assert state_of(fresh.home) == {}


def test_a_refused_archive_leaves_the_data_that_was_to_be_replaced(
    archive: Path, target: Path, tmp_path: Path
) -> None:
    before = state_of(target)
    bad = edited(archive, tmp_path / "bad.tar", swap_files)
    with pytest.raises(ArchiveDamaged):
        restore(settings_for(target, ""), bad, replace=True)
    after = state_of(target)
    (kept,) = [name for name in after if name.startswith("replaced-")]
    del after[kept]
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} <= {"footnote.db"}
    with opened(settings_for(target, "")) as services:
        assert text_of_mine(services) == b"This text stays."


def text_of_mine(services: Services) -> bytes:
    (path,) = services.settings.files_dir.glob("??/*")
    return path.read_bytes()


def test_on_postgres_too_a_refused_archive_leaves_no_table(
    archive: Path, empty_database_url: str, tmp_path: Path
) -> None:
    for name in ("a row twice", "files swapped", "no document row", "a change less"):
        edit, said = HOSTILE[name]
        bad = edited(archive, tmp_path / "bad.tar", edit)
        with pytest.raises(ArchiveDamaged, match=said):
            restore(settings_for(tmp_path / "fresh", empty_database_url), bad)
        engine = create_engine(empty_database_url)
        assert migration.current(engine) is None
        engine.dispose()


@pytest.mark.parametrize("cut", [0, 100, 512, 1024, 5000, -1, -1024, -1025, -3000])
def test_an_archive_that_is_cut_off_is_refused(archive: Path, tmp_path: Path, cut: int) -> None:
    data = archive.read_bytes()
    whole = data.rstrip(b"\0")
    (tmp_path / "cut.tar").write_bytes(data[:cut] if cut >= 0 else whole[: len(whole) + cut])
    with (tmp_path / "cut.tar").open("rb") as source, pytest.raises((ArchiveDamaged, ArchiveUnknown)):
        restoring.verify(source)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"hello.txt": b"hello"}, "begins with hello.txt"),
        ({"footnote.json": b"{}"}, "not that of a backup"),
        ({"footnote.json": b"[]"}, "not that of a backup"),
        ({"footnote.json": b"\xff"}, "cannot be read"),
        ({"footnote.json": b'{"kind": "footnote-backup"}'}, "cannot be read"),
        ({"footnote.json": b'{"kind": "footnote-backup", "format": "1"}'}, "cannot be read"),
    ],
    ids=range(6),
)
def test_a_file_of_another_kind_is_not_taken_for_a_backup(
    tmp_path: Path, contents: dict[str, bytes], said: str
) -> None:
    other = pack(contents.items(), tmp_path / "other.tar")
    with other.open("rb") as source, pytest.raises(ArchiveUnknown, match=said):
        restoring.verify(source)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": 2, "footnote": "9.0"}, "format 2, made by Footnote 9.0"),
        ({"schema": "9999"}, "schema 9999"),
    ],
    ids=["format", "schema"],
)
def test_a_backup_of_a_newer_program_says_so(
    archive: Path, tmp_path: Path, values: dict[str, object], said: str
) -> None:
    newer = edited(archive, tmp_path / "newer.tar", edit_json("footnote.json", **values))
    with newer.open("rb") as source, pytest.raises(ArchiveNewer, match=said):
        restoring.verify(source)


def test_a_part_larger_than_any_is_not_read(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MAX_PART_BYTES", 500)
    with archive.open("rb") as source, pytest.raises(ArchiveDamaged, match="any backup writes"):
        restoring.verify(source)


def test_a_header_has_more_fields_only_in_a_newer_format(archive: Path) -> None:
    header = json.loads(unpack(archive)["footnote.json"])
    assert header.keys() == {"kind", "id", "format", "footnote", "schema", "database", "created_at"}
