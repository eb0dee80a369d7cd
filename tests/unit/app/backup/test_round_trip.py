"""What was backed up is what is restored: on either database, and from one to the other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from sqlalchemy import select

from app.backup import restoring
from app.backup.manifest import LEFT_OUT
from app.backup.writing import tables
from app.db.tables import Base
from app.services import Services
from app.settings import Settings
from tests.service import settings_for, work
from tests.unit.app.backup.conftest import back_up, hits, opened, restore, submit

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
            work(services)
            with services.read() as session:
                statuses = session.execute(select(Base.metadata.tables["documents"].c["source", "status"])).all()
            assert dict(map(tuple, statuses))["later.txt"] == "ready"
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0][1]) == 6


def test_every_table_is_in_the_archive_or_left_out_with_a_reason(archive: Path) -> None:
    with archive.open("rb") as source:
        manifest = restoring.verify(source)
    assert set(manifest.tables) | set(LEFT_OUT) == set(Base.metadata.tables)
    assert not set(manifest.tables) & set(LEFT_OUT)
    assert all(LEFT_OUT.values())
