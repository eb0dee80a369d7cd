"""What every command shares: where the data is, how to print, how errors end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from sqlalchemy.exc import DatabaseError as SqlError

from app.db.errors import DatabaseError
from app.errors import FootnoteError
from app.generation.errors import GenerationError
from app.logs import configure_logging
from app.services import Services, open_services
from app.settings import LogSettings, Settings
from indexing.errors import IndexingError

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="The data folder. [env: FOOTNOTE_HOME]", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
CollectionOption = Annotated[str, typer.Option("--collection", "-c", help="The collection.")]

FILE_WIDTH = 160
"""Columns where the output is no terminal: wide enough that tables are not cut."""

_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"
}
_DIRECTIONS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "")


def shown(text: str) -> str:
    r"""Text as a terminal may have it: no character of it commands the terminal or turns the line around.

    >>> shown("tea\x1b[2J.md").encode("ascii", "replace")
    b'tea?[2J.md'
    """
    return text.translate(_CONTROLS | _DIRECTIONS)


class _Console(Console):
    """Prints titles, names and questions that others wrote, so what it prints goes through `shown`."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(shown(segment.text), segment.style)


console = _Console(highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)
errors = _Console(stderr=True, highlight=False)

_root: dict[str, Path] = {}


def remember_home(home: Path | None) -> None:
    """`footnote --home X command` means the same as `footnote command --home X`."""
    _root.clear()
    if home is not None:
        _root["home"] = home


def read_settings(home: Path | None) -> Settings:
    """The settings from the environment; exits with 2 where one cannot be read."""
    chosen = home or _root.get("home")
    try:
        return Settings(home=chosen) if chosen is not None else Settings()
    except ValidationError as error:
        for item in error.errors():
            name = "FOOTNOTE_" + "_".join(str(part) for part in item["loc"]).upper()
            said = "is not a setting" if item["type"] == "extra_forbidden" else item["msg"]
            errors.print(f"error: {name}: {said}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None


@contextmanager
def services_for(home: Path | None, *, log_level: str = "WARNING") -> Iterator[Services]:
    """The services for a command; an error of a known kind ends it with one line and exit code 1."""
    settings = read_settings(home)
    configure_logging(LogSettings(level=log_level, format="text"))
    with reported(), open_services(settings) as services:
        yield services


@contextmanager
def reported() -> Iterator[None]:
    """Turns errors with a name into one line on standard error."""
    try:
        yield
    except (FootnoteError, DatabaseError, IndexingError, GenerationError) as error:
        fail(f"{error} ({error.code})")
    except SqlError as error:
        fail(f"the database cannot be used: {error.orig} (database_unavailable)")
    except OSError as error:
        fail(f"{error.strerror}: {error.filename or ''} (file_error)")


def fail(message: str) -> NoReturn:
    errors.print(f"error: {message}", markup=False, soft_wrap=True)
    raise typer.Exit(1)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    sys.stdout.write(json.dumps(plain, ensure_ascii=False, indent=2, default=str) + "\n")


def read_object(text: str | None, option: str) -> dict[str, Any] | None:
    """The JSON object that an option gives; anything else is wrong usage of that option."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint=option) from error
    if not isinstance(value, dict):
        raise typer.BadParameter("give a JSON object", param_hint=option)
    return value
