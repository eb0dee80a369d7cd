"""A data folder belongs to one database: by a mistaken setting no file is swept away."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from app import belonging
from app.backup import restoring, writing
from app.documents import intake
from app.errors import Conflict
from app.services import Services, open_services
from app.settings import Settings
from indexing.encoding.fake import WordEncoder
from tests.service import settings_for

TEXT = b"# Tea\n\nWarm the pot before the leaves go in.\n"


def other(home: Path, tmp_path: Path) -> Settings:
    """The same data folder with another database."""
    return settings_for(home, f"sqlite:///{tmp_path / 'other.db'}")


def add(services: Services) -> None:
    intake.submit(services, intake.Submission(filename="tea.md"), BytesIO(TEXT))


def files(home: Path) -> list[str]:
    return [path.name for path in (home / "files").glob("??/*")]


def refused(settings: Settings) -> bool:
    try:
        with open_services(settings):
            return False
    except Conflict as error:
        return error.code == belonging.CODE


def test_another_database_is_refused_and_no_file_is_swept_away(home: Path, tmp_path: Path) -> None:
    with open_services(settings_for(home, "")) as services:
        add(services)
    assert refused(other(home, tmp_path))
    assert len(files(home)) == 1
    assert not refused(settings_for(home, ""))


def test_a_folder_without_files_is_anyone_s(home: Path, tmp_path: Path) -> None:
    """Whoever tried it out before setting a database has lost nothing."""
    assert not refused(settings_for(home, ""))
    assert not refused(other(home, tmp_path))
    assert len(belonging.names(home)) == 1


def test_a_database_that_was_lost_is_not_silently_begun_anew(home: Path) -> None:
    with open_services(settings_for(home, "")) as services:
        add(services)
    for path in home.glob("footnote.db*"):
        path.unlink()
    assert refused(settings_for(home, ""))


def test_a_folder_of_an_earlier_release_is_taken_by_the_database_that_has_documents(
    home: Path, tmp_path: Path
) -> None:
    with open_services(settings_for(home, "")) as services:
        add(services)
    (home / belonging.NAME).unlink()
    assert refused(other(home, tmp_path))
    assert not refused(settings_for(home, ""))
    assert (home / belonging.NAME).exists()


def test_a_lost_database_is_restored_beside_its_files(home: Path, tmp_path: Path) -> None:
    archive, settings = tmp_path / "backup.tar", settings_for(home, "")
    with open_services(settings, load=lambda _spec, _dir: WordEncoder()) as services:
        add(services)
        writing.back_up(services, archive, say=lambda *_: None)
    for path in home.glob("footnote.db*"):
        path.unlink()
    restore(settings, archive)
    assert not refused(settings)
    # By another way to keep it, too: the folder stays the same.
    restore(other(home, tmp_path), archive)
    assert not refused(other(home, tmp_path))


def test_another_database_is_not_restored_over_the_files_of_one(home: Path, tmp_path: Path) -> None:
    elsewhere, archive = tmp_path / "elsewhere", tmp_path / "backup.tar"
    elsewhere.mkdir()
    with open_services(settings_for(elsewhere, ""), load=lambda _spec, _dir: WordEncoder()) as services:
        add(services)
        writing.back_up(services, archive, say=lambda *_: None)
    with open_services(settings_for(home, "")) as services:
        intake.submit(services, intake.Submission(filename="mine.md"), BytesIO(b"my own"))
    for replace in (False, True):
        with pytest.raises(Conflict) as said:
            restore(other(home, tmp_path), archive, replace=replace)
        assert said.value.code == belonging.CODE
    assert len(files(home)) == 1
    assert not refused(settings_for(home, ""))
    restore(settings_for(home, ""), archive, replace=True)
    assert not refused(settings_for(home, ""))


def test_a_restore_killed_at_its_switch_leaves_a_folder_that_may_be_of_either(home: Path) -> None:
    with open_services(settings_for(home, "")) as services:
        add(services)
        with services.read() as session:
            own = belonging.identity(session)
    belonging.announce(home, home / "files", "another")
    assert belonging.names(home) == [own, "another"]
    assert not refused(settings_for(home, ""))


def test_a_restore_into_nothing_killed_before_its_switch_is_in_no_one_s_way(home: Path) -> None:
    (home / "files" / "ab").mkdir(parents=True)
    belonging.announce(home, home / "files", "another")
    (home / "files" / "ab" / "abcd").write_text("placed")
    assert not refused(settings_for(home, ""))
    assert belonging.names(home) != ["another"]


def restore(settings: Settings, archive: Path, *, replace: bool = False) -> None:
    with archive.open("rb") as source:
        restoring.restore(
            settings,
            source,
            open_services=lambda: open_services(settings, load=lambda _spec, _dir: WordEncoder()),
            replace=replace,
            say=lambda *_: None,
        )
