"""The command `footnote`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from app.cli.backup import backup_command, restore_command
from app.cli.context import remember_home
from app.cli.diagnose import diagnose_command
from app.cli.evaluation import eval_command
from app.cli.expand import expand_command
from app.cli.explain import explain_command
from app.cli.golden import golden_app
from app.cli.index import index_app
from app.cli.ingest import ingest_command
from app.cli.maintenance import db_app, doctor_command
from app.cli.records import documents_app, jobs_app
from app.cli.search import ask_command, search_command
from app.cli.serve import quickstart_command, serve_command, worker_command
from app.cli.similar import similar_command
from app.cli.sync import sync_command
from app.cli.tag import tag_command
from app.cli.train import train_app
from app.cli.tree import tree_app
from app.cli.tune import tune_command

app = typer.Typer(
    name="footnote",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Answers over your own documents, with a checked footnote on every sentence.",
)


@app.callback()
def root(
    home: Annotated[Path | None, typer.Option(help="The data folder. [env: FOOTNOTE_HOME]")] = None,
    _: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=lambda wanted: _version(wanted)
        ),
    ] = False,
) -> None:
    remember_home(home)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"footnote {version('footnote')}")
        raise typer.Exit


app.command("ingest")(ingest_command)
app.command("sync")(sync_command)
app.command("search")(search_command)
app.command("explain")(explain_command)
app.command("similar")(similar_command)
app.command("tag")(tag_command)
app.command("ask")(ask_command)
app.command("serve")(serve_command)
app.command("worker")(worker_command)
app.command("quickstart")(quickstart_command)
app.command("eval")(eval_command)
app.command("expand")(expand_command)
app.command("tune")(tune_command)
app.command("diagnose")(diagnose_command)
app.command("backup")(backup_command)
app.command("restore")(restore_command)
app.command("doctor")(doctor_command)
app.add_typer(index_app, name="index")
app.add_typer(golden_app, name="golden")
app.add_typer(tree_app, name="tree")
app.add_typer(train_app, name="train")
app.add_typer(documents_app, name="documents")
app.add_typer(jobs_app, name="jobs")
app.add_typer(db_app, name="db")


def main() -> None:
    """The entry point; exit code 0 ok, 1 failed, 2 wrong usage."""
    app()
