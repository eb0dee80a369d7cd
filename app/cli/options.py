"""Options that several commands share, declared once as the fields of a value type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from inspect import Parameter
from typing import Any, get_type_hints

import typer


def with_options(kind: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the fields of a dataclass as options; it gets them as one value, its first parameter.

    typer reads the options of a command from its signature, so this writes one that has both.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = _parameters(command)
        shared = _parameters(kind)

        @wraps(command)
        def run(**given: Any) -> None:
            values = {parameter.name: given.pop(parameter.name) for parameter in shared}
            command(kind(**values), **given)

        run.__signature__ = inspect.Signature([*shared, *own])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*shared, *own)}
        return run

    return decorate


def _parameters(of: Callable[..., Any]) -> list[Parameter]:
    """The parameters, each with its annotation as an object and as one that is given by name."""
    hints = get_type_hints(of, include_extras=True)
    return [
        parameter.replace(annotation=hints[parameter.name], kind=Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(of).parameters.values()
    ]


def check_one_of(value: str | None, names: Iterable[str], option: str) -> None:
    """Raises BadParameter for a value that is not one of the names; None is no value."""
    known = tuple(names)
    if value is not None and value not in known:
        raise typer.BadParameter(f"one of {', '.join(known)}", param_hint=option)
