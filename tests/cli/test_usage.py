"""What holds for every command: help, exit codes, the data folder, output for programs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main

from app.cli import app
from tests.cli.conftest import Footnote, invoke

ROOT = typer.main.get_command(app)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that lead to it."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from commands(inner, (*path, name))


COMMANDS = [pytest.param(path, command, id=" ".join(path)) for path, command in commands(ROOT)]


def test_every_command_of_the_contract_is_there() -> None:
    names = {" ".join(path) for path, _ in commands(ROOT)}
    versions = ("build", "rebuild", "list", "status", "verify", "activate", "rollback")
    assert names >= {"ingest", "search", "ask", "serve", "worker", "eval", "doctor"}
    assert names >= {f"index {name}" for name in versions}
    assert names >= {f"documents {name}" for name in ("list", "show", "delete")}
    assert names >= {f"jobs {name}" for name in ("list", "show", "retry", "cancel")}
    assert names >= {"db upgrade", "db current"}


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_help_names_every_argument_and_option(path: tuple[str, ...], command: Any) -> None:
    done = invoke(*path, "--help")
    assert done.exit_code == 0
    assert done.err == ""
    assert command.help is not None
    assert command.help.split(".")[0].split("\n")[0] in " ".join(done.out.split())
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            assert parameter.name in done.out.splitlines()[0].lower()
        elif not parameter.hidden:
            assert parameter.opts[0] in done.out
            assert parameter.help, f"{parameter.name} has no help"


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_an_unknown_option_is_wrong_usage(path: tuple[str, ...], command: Any) -> None:
    done = invoke(*path, "--no-such-option")
    assert done.exit_code == 2
    assert done.out == ""
    assert "no-such-option" in done.err


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_what_prints_takes_json_and_the_data_folder(path: tuple[str, ...], command: Any) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--home" in options
    if path not in (("serve",), ("worker",), ("quickstart",)):
        assert "--json" in options


def test_the_version_is_printed() -> None:
    done = invoke("--version")
    assert (done.exit_code, done.out) == (0, f"footnote {version('footnote')}\n")


@pytest.mark.parametrize("arguments", [["nonsense"], ["index"], ["index", "nonsense"], []], ids=" ".join)
def test_no_command_is_wrong_usage(arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == 2


def test_the_data_folder_stands_before_or_after_the_command(library: Footnote, tmp_path: Path) -> None:
    after = library.json("documents", "list")
    assert after["data"]
    before = invoke("--home", library.home, "documents", "list", "--json").json
    assert before == after
    both = invoke(
        "--home", tmp_path / "elsewhere", "documents", "list", "--home", library.home, "--json"
    ).json
    assert both == after, "the nearer one counts"
    assert not (tmp_path / "elsewhere").exists()


def test_the_data_folder_of_one_run_is_forgotten_by_the_next(
    library: Footnote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOTNOTE_HOME", str(tmp_path / "other"))
    assert invoke("--home", library.home, "documents", "list", "--json").json["data"]
    assert invoke("documents", "list", "--json").json["data"] == []
    assert library.json("documents", "list")["data"], "the option wins over the variable"


def test_a_setting_that_cannot_be_read_is_wrong_usage(
    footnote: Footnote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOTNOTE_SEARCH_ALPHA", "2")
    monkeypatch.setenv("FOOTNOTE_LLM_API_KEY", "sk-secret")
    done = footnote("documents", "list", code=2)
    assert done.out == ""
    assert "FOOTNOTE_SEARCH_ALPHA" in done.err
    assert "less than or equal to 1" in done.err
    assert "sk-secret" not in done.err


def test_an_error_is_one_line_and_exit_code_one(footnote: Footnote) -> None:
    for arguments in (
        ["documents", "list", "--collection", "nowhere"],
        ["documents", "show", "nothing.md"],
        ["documents", "delete", "0" * 16],
        ["jobs", "show", "nope"],
        ["search", "x", "--collection", "nowhere"],
        ["index", "activate", "f" * 32],
        ["index", "rollback"],
        ["ask", "x", "--generator", "llm"],
    ):
        done = footnote(*arguments, code=1)
        assert done.out == ""
        (line,) = done.err.splitlines()
        assert line.startswith("error: ")
        assert line.endswith(")"), "its code comes last"


def test_a_database_of_no_known_kind_is_named(footnote: Footnote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTNOTE_DATABASE_URL", "oracle://scott:tiger@db/x")
    done = footnote("documents", "list", code=1)
    assert "(database_url)" in done.err
    assert "tiger" not in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", ""],
        ["search", "x", "--mode", "magic"],
        ["search", "x", "--top-k", "0"],
        ["search", "x", "--filter", "{"],
        ["search", "x", "--filter", "[1]"],
        ["ask", "x", "--generator", "oracle"],
        ["ask", "   "],
        ["ingest", "/does/not/exist"],
        ["ingest", ".", "--metadata", "[]"],
        ["documents", "list", "--status", "odd"],
        ["jobs", "list", "--status", "odd"],
        ["eval", "/does/not/exist"],
        ["eval", ".", "--mode", "magic"],
        ["eval", ".", "--rerank", "magic"],
        ["eval", ".", "--transform", "magic"],
        ["expand", "--kind", "magic"],
        ["expand", "--remove", "--dry-run"],
        ["search", "x", "--transform", "magic"],
        ["ask", "x", "--transform", "magic"],
    ],
    ids=" ".join,
)
def test_a_value_that_makes_no_sense_is_wrong_usage(footnote: Footnote, arguments: list[str]) -> None:
    done = footnote(*arguments, code=2)
    assert done.out == ""
    assert done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "caf\udce9", "--mode", "bm25"],
        ["ask", "caf\udce9"],
        ["explain", "caf\udce9"],
        ["similar", "--like", "caf\udce9"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_bytes_that_are_no_text_are_no_query(library: Footnote, arguments: list[str]) -> None:
    assert "is no text" in library(*arguments, code=1).err


def test_a_filter_that_cannot_be_honoured_fails(library: Footnote) -> None:
    assert "(invalid_filter)" in library("search", "x", "--filter", '{"year": {"$near": 1}}', code=1).err
