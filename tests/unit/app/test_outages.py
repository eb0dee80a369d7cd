"""Which errors say nothing about a job; that of a locked database is told by the tests of the queue."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.outages import outage_of
from app.services import Services


def test_a_statement_that_is_wrong_is_no_outage(services: Services) -> None:
    with pytest.raises(OperationalError, match="no such table") as error, services.read() as session:
        session.execute(text("SELECT * FROM nowhere"))
    assert outage_of(error.value) is None
