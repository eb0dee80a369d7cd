"""What every process opens first."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from app import services
from app.db import collections, migration
from app.services import open_services
from tests.service import settings_for


def test_a_worker_waits_for_a_database_that_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade, left = migration.upgrade, [2, 1]

    def fails_at_first(engine: Engine) -> None:
        if left:
            left.pop()
            raise OperationalError("SELECT 1", {}, ValueError("server closed the connection unexpectedly"))
        upgrade(engine)

    monkeypatch.setattr(migration, "upgrade", fails_at_first)
    monkeypatch.setattr(services, "WAIT_SECONDS", 0.0)
    with pytest.raises(OperationalError), open_services(settings_for(tmp_path, "")):
        pass
    with open_services(settings_for(tmp_path, ""), patient=True) as opened, opened.read() as session:
        assert [row.name for row in collections.list_all(session)] == ["default"]
    assert not left


def test_a_worker_gives_up_a_database_that_stays_away_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_engine: Engine) -> None:
        raise OperationalError("SELECT 1", {}, ValueError("password authentication failed"))

    monkeypatch.setattr(migration, "upgrade", fails)
    monkeypatch.setattr(services, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(services, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(OperationalError), open_services(settings_for(tmp_path, ""), patient=True):
        pass
    assert "password authentication failed" in caplog.text
