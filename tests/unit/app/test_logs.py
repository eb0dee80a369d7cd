"""Log lines: one JSON object each, with the request's id and what was given as extra."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from app.logs import JsonFormatter, configure_logging, request_id
from app.settings import LogSettings


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """`configure_logging` is for a whole process; the tests' own is put back."""
    root = logging.getLogger()
    names = ("httpx", "httpcore", "alembic", "uvicorn", "uvicorn.error", "uvicorn.access")
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, kept in levels.items():
        logging.getLogger(name).setLevel(kept)


def line(
    message: str = "hello", *args: object, extra: dict[str, Any] | None = None, exc_info: Any = None
) -> dict[str, Any]:
    record = logging.getLogger("app.test").makeRecord(
        "app.test",
        logging.INFO,
        __file__,
        1,
        message,
        args,
        exc_info,
        extra=extra,
    )
    text = JsonFormatter().format(record)
    assert "\n" not in text
    value: dict[str, Any] = json.loads(text)
    return value


def test_a_line_has_time_level_logger_and_message() -> None:
    entry = line("%s is %d", "Käse\n", 3)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {"level": "info", "logger": "app.test", "message": "Käse\n is 3"}


def test_extras_are_fields_and_odd_values_are_written_as_text() -> None:
    entry = line(extra={"action": "job_claimed", "n_jobs": 3, "path": ValueError("odd")})
    assert (entry["action"], entry["n_jobs"], entry["path"]) == ("job_claimed", 3, "odd")


def test_the_id_of_the_request_is_on_its_lines_and_on_no_others() -> None:
    assert "request_id" not in line()
    token = request_id.set("abc")
    try:
        assert line()["request_id"] == "abc"
    finally:
        request_id.reset(token)
    assert "request_id" not in line()


def test_an_exception_is_one_line_with_its_traceback() -> None:
    try:
        raise ValueError("inside")
    except ValueError:
        entry = line(exc_info=sys.exc_info())
    assert "ValueError: inside" in entry["exception"]
    assert "Traceback" in entry["exception"]


def test_configured_json_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="WARNING", format="json"))
    logging.getLogger("app.any").info("not shown")
    logging.getLogger("app.any").warning("shown", extra={"action": "x"})
    logging.getLogger("httpx").info("GET https://key@example.org")
    captured = capsys.readouterr()
    assert captured.out == ""
    (only,) = captured.err.splitlines()
    assert json.loads(only)["action"] == "x"


def test_configured_text_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="DEBUG", format="text"))
    logging.getLogger("app.any").debug("hello")
    err = capsys.readouterr().err
    assert err.endswith("DEBUG app.any: hello\n")


def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        configure_logging(LogSettings())
    logging.getLogger("uvicorn.error").info("once")
    assert len(capsys.readouterr().err.splitlines()) == 1
