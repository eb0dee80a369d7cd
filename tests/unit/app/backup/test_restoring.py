"""Where a backup may go, what is kept of what was there, and what is missing afterwards."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, select

from app.backup import links, restoring, writing
from app.backup.errors import ArchiveExists, TargetInUse, TargetNotEmpty
from app.backup.manifest import LEFT_OUT
from app.backup.targets import sqlite_staging
from app.db import collections, documents, jobs, migration, queue, versions
from app.db.engine import create_engine
from app.db.tables import DocumentRow, IndexVersionRow, JobRow
from app.documents import intake
from app.services import Services
from app.settings import Settings
from indexing.encoding.base import Encoder
from indexing.encoding.fake import WordEncoder
from indexing.errors import EncoderError, IndexMissing
from tests.service import settings_for, work
from tests.unit.app.backup.conftest import (
    back_up,
    edit_json,
    edit_rows,
    edited,
    hits,
    opened,
    quiet,
    restore,
    submit,
)


@pytest.fixture
def settings(tmp_path: Path, empty_database_url: str) -> Settings:
    return settings_for(tmp_path / "there", empty_database_url)


def sources(services: Services) -> set[str]:
    with services.read() as session:
        return set(session.scalars(select(DocumentRow.source)))


def test_a_database_with_data_is_refused_and_replaced_on_demand(settings: Settings, archive: Path) -> None:
    with opened(settings) as services:
        submit(services, "mine.txt", "A text of mine, which another takes the place of.")
        work(services)
    with pytest.raises(TargetNotEmpty, match="--replace"):
        restore(settings, archive)
    with opened(settings) as services:
        assert sources(services) == {"mine.txt"}
    done = restore(settings, archive, replace=True)
    with opened(settings) as services:
        assert "mine.txt" not in sources(services)
        assert len(list(settings.files_dir.glob("??/*"))) == 6
        there = hits(services)
    assert done.undo is not None
    assert done.undo.stat().st_mode & 0o077 == 0
    undone = restore(settings, done.undo, replace=True)
    with opened(settings) as services:
        assert sources(services) == {"mine.txt"}
        (path,) = settings.files_dir.glob("??/*")
        assert path.read_bytes() == b"A text of mine, which another takes the place of."
    assert undone.undo is not None
    restore(settings, undone.undo, replace=True)
    with opened(settings) as services:
        assert hits(services) == there


def test_a_started_service_without_data_counts_as_empty(settings: Settings, archive: Path) -> None:
    with opened(settings):
        pass
    assert restore(settings, archive).undo is None


def test_a_database_that_is_in_use_is_refused(settings: Settings, archive: Path) -> None:
    with opened(settings), pytest.raises(TargetInUse, match="stop `footnote serve`"):
        restore(settings, archive)
    with opened(settings) as services:
        assert sources(services) == set()


def test_one_restore_at_a_time(settings: Settings, archive: Path) -> None:
    seen: list[str] = []

    def again(_stage: str, _done: int, _total: int) -> None:
        if not seen:
            with pytest.raises(TargetInUse) as caught:
                restore(settings, archive)
            seen.append(str(caught.value))

    with archive.open("rb") as source:
        restoring.restore(settings, source, open_services=lambda: opened(settings), say=again)
    assert "another process restores into" in seen[0]


def no_encoder() -> Encoder:
    raise EncoderError("the model is not here")


class OtherEncoder(WordEncoder):
    @property
    def fingerprint(self) -> str:
        return "another"


@pytest.mark.parametrize(
    ("encoder", "said"), [(no_encoder, "the model is not here"), (OtherEncoder, "is another one")]
)
def test_without_the_encoder_the_data_is_there_and_the_index_can_be_made_later(
    archive: Path, tmp_path: Path, encoder: Any, said: str, source_settings: Settings
) -> None:
    settings = settings_for(tmp_path / "there", "")
    done = restore(settings, archive, encoder)
    assert [item.collection for item in done.indexes] == ["default", "notes"]
    for item in done.indexes:
        assert said in str(item.problem)
        assert f"`footnote index rebuild --collection {item.collection}`" in str(item.problem)
    with opened(settings) as services, opened(source_settings) as source:
        assert sources(services) == sources(source)
        with pytest.raises(IndexMissing):
            hits(services)
        assert [item.problem for item in restoring.rebuild_indexes(services, quiet)] == [None, None]
        assert hits(services) == hits(source)


def test_nothing_is_encoded_for_the_index(archive: Path, tmp_path: Path) -> None:
    class Unable(WordEncoder):
        def encode_documents(self, *_args: Any, **_options: Any) -> Any:
            raise AssertionError("a text is encoded that has a vector")

    done = restore(settings_for(tmp_path / "there", ""), archive, Unable)
    assert [item.problem for item in done.indexes] == [None, None]


def test_only_the_served_version_is_left_and_has_a_new_id(
    archive: Path, source_settings: Settings, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path / "there", "")
    restore(settings, archive)
    with opened(settings) as services, services.read() as session:
        ids = {row.id for row in versions.list_all(session)}
        assert {path.name for path in settings.indexes_dir.iterdir() if len(path.name) == 32} == ids
    with opened(source_settings) as services, services.read() as session:
        assert not ids & set(session.scalars(select(IndexVersionRow.id)))
    assert len(ids) == 2


def test_what_was_in_work_waits_again_and_what_was_to_stop_is_cancelled(tmp_path: Path) -> None:
    settings, there = settings_for(tmp_path / "source", ""), settings_for(tmp_path / "there", "")
    with opened(settings) as services:
        for source in ("a.txt", "b.txt", "c.txt"):
            submit(services, source, f"The text of {source}.")
        with services.write() as session:
            held = queue.claim(session, "a worker", ["ingest"], limit=2, lease_seconds=3600)
            jobs.cancel(session, held[1].id)
    restore(there, back_up(settings, tmp_path / "backup.tar"))
    with opened(there) as services:
        with services.read() as session:
            found = {job.id: job for job in session.scalars(select(JobRow))}
            assert (found[held[0].id].status, found[held[0].id].attempts) == ("todo", 0)
            assert found[held[0].id].worker is None
            assert found[held[1].id].status == "cancelled"
        work(services)
        with services.read() as session:
            statuses = sorted(session.scalars(select(DocumentRow.status)))
        assert statuses == ["failed", "ready", "ready"]


def test_files_that_were_missing_or_damaged_are_named_and_the_rest_is_restored(tmp_path: Path) -> None:
    settings, there = settings_for(tmp_path / "source", ""), settings_for(tmp_path / "there", "")
    with opened(settings) as services:
        for source in ("a.txt", "b.txt", "c.txt"):
            submit(services, source, f"The text of {source}.")
        work(services)
        missing, damaged, whole = sorted(settings.files_dir.glob("??/*"))
        missing.unlink()
        damaged.write_bytes(b"another text")
        done = writing.back_up(services, tmp_path / "backup.tar", say=quiet)
    assert done.manifest.missing_files == (missing.name, damaged.name)
    restored = restore(there, tmp_path / "backup.tar")
    assert restored.manifest is not None
    assert restored.manifest.missing_files == done.manifest.missing_files
    assert [path.name for path in there.files_dir.glob("??/*")] == [whole.name]
    with opened(there) as services:
        assert sources(services) == {"a.txt", "b.txt", "c.txt"}


def columns_at(revision: str, folder: Path) -> dict[str, list[str]]:
    """The tables of an older schema."""
    with sqlite_staging(folder / "older.db") as connection:
        migration.upgrade_within(connection, revision)
        metadata = MetaData()
        metadata.reflect(connection)
        return {table.name: list(table.columns.keys()) for table in metadata.tables.values()}


def test_a_backup_of_an_older_schema_is_brought_to_the_present_one(
    archive: Path, settings: Settings, source_settings: Settings, tmp_path: Path
) -> None:
    old = columns_at("0001", tmp_path)

    def to_old(contents: dict[str, bytes]) -> None:
        for name in [name for name in contents if name.startswith("tables/")]:
            if name.split("/")[1] not in old:
                del contents[name]
        manifest = json.loads(contents["manifest.json"])
        for table in manifest["tables"]:
            if table in old and manifest["tables"][table]:
                edit_rows(table, partial(cut, old[table]))(contents)
        counts = {table: n for table, n in manifest["tables"].items() if table in old}
        left_out = {table: why for table, why in LEFT_OUT.items() if table in old}
        header = manifest["header"] | {"schema": "0001"}
        edit_json("manifest.json", tables=counts, left_out=left_out, header=header)(contents)
        edit_json("footnote.json", schema="0001")(contents)

    restore(settings, edited(archive, tmp_path / "older.tar", to_old))
    engine = create_engine(settings.database_url)
    assert migration.current(engine) == migration.head() != "0001"
    engine.dispose()
    with opened(settings) as services, opened(source_settings) as source:
        assert hits(services) == hits(source)


def cut(wanted: list[str], columns: list[str], rows: list[list[Any]]) -> None:
    """Leaves only the wanted columns."""
    kept = [index for index, column in enumerate(columns) if column in wanted]
    for line in (*rows, columns):
        line[:] = [line[index] for index in kept]


def test_a_log_without_its_database_is_not_taken_for_that_of_the_backup(
    archive: Path, source_settings: Settings, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path / "there", "")
    settings.home.mkdir()
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE other (a)")
        other.commit()
        (settings.home / "footnote.db-wal").write_bytes((tmp_path / "other.db-wal").read_bytes())
    restore(settings, archive)
    with opened(settings) as services, opened(source_settings) as source:
        assert hits(services) == hits(source)


def test_a_file_of_that_name_is_not_overwritten(source_settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "backup.tar"
    path.write_bytes(b"mine")
    with opened(source_settings) as services:
        with pytest.raises(ArchiveExists):
            writing.back_up(services, path, say=quiet)
        assert path.read_bytes() == b"mine"
        writing.back_up(services, path, force=True, say=quiet)
    with path.open("rb") as source:
        restoring.verify(source)
    assert path.stat().st_mode & 0o077 == 0
    assert [item.name for item in tmp_path.iterdir()] == ["backup.tar"]


def test_a_backup_that_fails_leaves_nothing(source_settings: Settings, tmp_path: Path) -> None:
    def fail(stage: str, _done: int, _total: int) -> None:
        if stage == "files":
            raise KeyboardInterrupt

    with opened(source_settings) as services, pytest.raises(KeyboardInterrupt):
        writing.back_up(services, tmp_path / "backup.tar", say=fail)
    assert list(tmp_path.iterdir()) == []
    assert list((source_settings.files_dir / "backup").iterdir()) == []


def test_two_backups_to_one_file_do_not_mix(source_settings: Settings, tmp_path: Path) -> None:
    refused: list[str] = []
    with opened(source_settings) as services:

        def again(_stage: str, _done: int, _total: int) -> None:
            with pytest.raises(ArchiveExists) as caught:
                writing.back_up(services, tmp_path / "backup.tar", say=quiet)
            refused.append(str(caught.value))

        writing.back_up(services, tmp_path / "backup.tar", say=again)
    assert "another process is writing" in refused[0]
    with (tmp_path / "backup.tar").open("rb") as source:
        restoring.verify(source)


def test_files_that_are_deleted_while_they_are_backed_up_are_in_it(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "source", "")
    with opened(settings) as services:
        submit(services, "a.txt", "This text is deleted while the backup is written.")
        work(services)

        def delete(stage: str, _done: int, _total: int) -> None:
            if sources(services):
                with services.read() as session:
                    default = collections.get_by_name(session, "default").id
                    row = documents.get_by_source(session, default, "a.txt")
                assert row is not None
                intake.delete(services, row.id)

        done = writing.back_up(services, tmp_path / "backup.tar", say=delete)
        assert list(settings.files_dir.glob("??/*")) == []
    assert (done.manifest.n_files, done.manifest.missing_files) == (1, ())
    restore(settings_for(tmp_path / "there", ""), tmp_path / "backup.tar")


def test_links_of_killed_backups_are_swept(source_settings: Settings) -> None:
    with opened(source_settings) as services, services.read() as session:
        with links.kept_files(services.store, session) as kept:
            left = kept.folder.with_name("left")
            (left / "ab").mkdir(parents=True)
            (left / "ab" / "file").write_text("a")
            assert links.sweep(services.store) == 0, "it may have been made this moment"
            assert links.sweep(services.store, older_than_seconds=-1) == 1
            assert kept.folder.exists(), "its backup goes on"
            assert not left.exists()
        assert not kept.folder.exists()
