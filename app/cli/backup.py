"""`footnote backup` and `footnote restore`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from app.backup import restoring, writing
from app.backup.manifest import Manifest
from app.cli.context import (
    HomeOption,
    JsonOption,
    console,
    errors,
    fail,
    print_json,
    read_settings,
    reported,
    services_for,
)
from app.cli.progress import Say, progress

MEGABYTE = 1_000_000

BackupArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The backup; `-` for a pipe.")]


def backup_command(
    file: BackupArgument,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Write nothing: check a backup.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write everything to one file: database, vectors, original files. The service may go on working.

    The file holds the full text of every document. It is a tar archive for its owner's eyes alone; with
    `--verify` it is read from end to end as a restore would, and nothing is changed.

    Example: footnote backup footnote-monday.tar
    """
    if verify:
        _verify(file, as_json)
        return
    settings = read_settings(home)
    if not settings.home.is_dir():
        fail(f"there is no data folder {settings.home} (home_not_found)")
    with services_for(home) as services, progress(errors, quiet=as_json or _is_pipe(file)) as say:
        if _is_pipe(file):
            done = writing.write_backup(services, sys.stdout.buffer, say)
            sys.stdout.buffer.flush()
        else:
            done = writing.back_up(services, file, force=force, say=say)
    if _is_pipe(file):
        return
    if as_json:
        shown = {"file": str(file), "bytes": done.totals.n_bytes, "seconds": round(done.seconds, 3)}
        print_json(shown | _facts(done.manifest))
        return
    console.print(
        f"{file}: {_counts(done.manifest)}, {done.totals.n_bytes / MEGABYTE:.1f} MB in {done.seconds:.1f} s",
        markup=False,
    )
    _warn_missing(done.manifest)


def restore_command(
    file: BackupArgument,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the data that is there; a backup of it is kept.")
    ] = False,
    index: Annotated[bool, typer.Option(help="Make the indexes anew, from stored vectors.")] = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring back what `footnote backup` wrote: on any machine, into SQLite or PostgreSQL.

    Stop `footnote serve` and `footnote worker` first. The data folder and the database have to be empty;
    nothing is seen of the backup before all of it was read and checked. After Ctrl-C or a crash, run the same
    command again.

    Example: footnote restore footnote-monday.tar --home /srv/footnote
    """
    settings = read_settings(home)
    with reported(), progress(errors, quiet=as_json) as say, _opened(file, say) as source:
        done = restoring.restore(
            settings,
            source,
            open_services=lambda: services_for(home),
            replace=replace,
            index=index,
            say=say,
        )
    if as_json:
        print_json(
            {
                "archive": done.archive_id,
                "created_at": done.created_at,
                "seconds": round(done.seconds, 3),
                "undo": None if done.undo is None else str(done.undo),
                "indexes": [asdict(item) for item in done.indexes],
                **({} if done.manifest is None else _facts(done.manifest)),
            }
        )
    else:
        _print_restored(done)


def _print_restored(done: restoring.Restored) -> None:
    counts = "the data was there already" if done.manifest is None else _counts(done.manifest)
    console.print(f"restored the backup of {done.created_at}: {counts}, {done.seconds:.1f} s", markup=False)
    for item in done.indexes:
        if item.problem is None:
            console.print(f"index of {item.collection}: {item.n_chunks} chunks, verified", markup=False)
        else:
            console.print(f"no index of {item.collection}: {item.problem}", markup=False, soft_wrap=True)
    if done.undo is not None:
        console.print(f"what was there before: {done.undo}", markup=False, soft_wrap=True)
    if done.manifest is not None:
        _warn_missing(done.manifest)


def _verify(file: Path, as_json: bool) -> None:
    with reported(), progress(errors, quiet=as_json) as say, _opened(file, say) as source:
        manifest = restoring.verify(source)
    if as_json:
        print_json({"file": str(file), "ok": True} | _facts(manifest))
    else:
        console.print(f"{file}: whole; {_counts(manifest)}, of {manifest.header.created_at}", markup=False)
        _warn_missing(manifest)


def _is_pipe(file: Path) -> bool:
    return str(file) == "-"


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "footnote": manifest.header.footnote,
        "schema": manifest.header.schema,
        "created_at": manifest.header.created_at,
        "tables": dict(manifest.tables),
        "rows": manifest.n_rows,
        "files": manifest.n_files,
        "file_bytes": manifest.file_bytes,
        "missing_files": list(manifest.missing_files),
    }


def _counts(manifest: Manifest) -> str:
    return (
        f"{manifest.tables['documents']} documents, {manifest.tables['chunks']} chunks, "
        f"{manifest.n_files} files"
    )


def _warn_missing(manifest: Manifest) -> None:
    if manifest.missing_files:
        errors.print(
            f"warning: {len(manifest.missing_files)} original files were missing or damaged in the store, so "
            "the backup lacks them; their text is there",
            soft_wrap=True,
        )


@contextmanager
def _opened(file: Path, say: Say) -> Iterator[_Counted]:
    if _is_pipe(file):
        yield _Counted(sys.stdin.buffer, 0, say)
        return
    with file.open("rb") as source:
        yield _Counted(source, file.stat().st_size, say)


class _Counted:
    """A stream that says how many megabytes of it were read."""

    def __init__(self, source: BinaryIO, n_bytes: int, say: Say) -> None:
        self._source = source
        self._total = n_bytes
        self._say = say
        self._n_read = 0

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        before, self._n_read = self._n_read // MEGABYTE, self._n_read + len(data)
        if self._n_read // MEGABYTE > before or self._n_read == self._total:
            self._say("read MB", self._n_read // MEGABYTE, max(self._total, self._n_read) // MEGABYTE)
        return data
