"""The parts of a service over a database file and an encoder without a model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.services import Services, open_services
from indexing.encoding.fake import WordEncoder
from tests.service import settings_for


@pytest.fixture
def home(tmp_path: Path, sqlite_template: Path) -> Path:
    """A data folder whose database has the tables already."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copyfile(sqlite_template, folder / "footnote.db")
    return folder


@pytest.fixture
def services(home: Path) -> Iterator[Services]:
    with open_services(settings_for(home, ""), load=lambda _spec, _dir: WordEncoder()) as opened:
        yield opened
