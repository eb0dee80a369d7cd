"""What was backed up is what is restored: on either database, and from one to the other."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import JSON, select

from app.backup import restoring
from app.backup.manifest import LEFT_OUT
from app.backup.rows import kind_of
from app.backup.writing import tables
from app.db.tables import Base, DocumentRow
from app.services import Services
from app.settings import Settings
from tests.service import settings_for, work
from tests.unit.app.backup.conftest import back_up, hits, opened, restore, unpack

# What a restore changes on purpose: the index is another one, and what was in work waits again.
CHANGED = {"index_versions"}


def rows(services: Services) -> dict[str, list[dict[str, object]]]:
    """Every row of every table that a backup has, in the order of the keys."""
    found = {}
    with services.read() as session:
        for table in tables():
            if table.name not in CHANGED:
                statement = select(table).order_by(*table.primary_key.columns)
                found[table.name] = [dict(row._mapping) for row in session.execute(statement)]
    for row in found["collections"]:
        del row["active_version_id"]
    return found


def files(services: Services) -> dict[str, bytes]:
    folder = services.settings.files_dir
    return {path.name: path.read_bytes() for path in folder.glob("??/*")}


def test_rows_files_and_hits_are_the_same_there_and_back(
    source_settings: Settings, archive: Path, empty_database_url: str, tmp_path: Path
) -> None:
    there = settings_for(tmp_path / "there", empty_database_url)
    back = settings_for(tmp_path / "back", "")
    done = restore(there, archive)
    assert {item.collection: item.problem for item in done.indexes} == {"default": None, "notes": None}
    restore(back, back_up(there, tmp_path / "again.tar"))
    seen = []
    for settings in (source_settings, there, back):
        with opened(settings) as services:
            seen.append((rows(services), files(services), hits(services)))
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0][1]) == 6


def test_what_waited_is_done_after_the_restore(
    archive: Path, empty_database_url: str, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path / "there", empty_database_url)
    restore(settings, archive)
    with opened(settings) as services:
        work(services)
        with services.read() as session:
            found = session.execute(select(DocumentRow.source, DocumentRow.status))
            statuses = {row.source: row.status for row in found}
    assert statuses.pop("broken.pdf") == "failed"
    assert set(statuses.values()) == {"ready"}
    assert "later.txt" in statuses


def test_every_table_is_in_the_archive_or_left_out_with_a_reason(archive: Path) -> None:
    with archive.open("rb") as source:
        manifest = restoring.verify(source)
    assert set(manifest.tables) | set(LEFT_OUT) == set(Base.metadata.tables)
    assert not set(manifest.tables) & set(LEFT_OUT)
    assert all(LEFT_OUT.values())


def test_two_backups_of_one_state_hold_the_same(
    source_settings: Settings, archive: Path, tmp_path: Path
) -> None:
    again = back_up(source_settings, tmp_path / "again.tar")
    first, second = unpack(archive), unpack(again)
    for name in ("footnote.json", "manifest.json"):
        del first[name], second[name]
    assert first == second


def test_nothing_that_a_backup_has_no_form_for_is_in_the_schema() -> None:
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            kind_of(column)
            if isinstance(column.type, JSON) and column.nullable:
                # Else a JSON null and no value at all would be the same when they are read.
                assert column.type.none_as_null, column
        if table.autoincrement_column is not None:
            # A restore would have to set where the numbers go on.
            assert table.autoincrement_column.autoincrement is False, table.name
