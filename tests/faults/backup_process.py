"""`backup FILE HOME URL` or `restore FILE HOME URL [replace]` in a process of its own, without a model."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from app.backup import restoring, writing
from app.services import open_services
from indexing.encoding.fake import WordEncoder
from tests.service import settings_for


def main(command: str, file: Path, home: Path, url: str, *options: str) -> None:
    settings = settings_for(home, url)
    opened = partial(open_services, settings, load=lambda _spec, _dir: WordEncoder())
    if command == "backup":
        with opened() as services:
            writing.back_up(services, file, force=True, say=_quiet)
        return
    with file.open("rb") as source:
        restoring.restore(settings, source, open_services=opened, replace="replace" in options, say=_quiet)


def _quiet(_stage: str, _done: int, _total: int) -> None:
    pass


if __name__ == "__main__":
    command, file, home, *rest = sys.argv[1:]
    main(command, Path(file), Path(home), *rest)
