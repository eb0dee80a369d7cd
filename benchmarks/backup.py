"""Backup, check and restore of a large collection: seconds, rows and megabytes a second, memory.

    python -m benchmarks.backup --n 100000 --json backup.json
    python -m benchmarks.backup --n 100000 --postgres postgresql://…/empty

The collection is made up (`benchmarks.made_up`), on SQLite. Each step runs as the command `footnote`, in a
process of its own, whose largest memory is measured. `index` is what a restore takes beyond the data: the
served index, made from the stored vectors and verified.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from app.services import open_services
from app.settings import Settings
from benchmarks.machine import describe
from benchmarks.made_up import fill
from benchmarks.service import build_index

MEGABYTE = 1_000_000


def footnote(home: Path, *arguments: str, url: str = "") -> tuple[dict[str, Any], float, int]:
    """What a command prints, its seconds, and the most memory it had, in bytes."""
    command = [sys.executable, "-m", "app.cli", *arguments, "--home", str(home), "--json"]
    environment = os.environ | {"FOOTNOTE_DATABASE_URL": url}
    timed = (
        "import json, resource, subprocess, sys, time\n"
        "begun = time.perf_counter()\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
        "print(json.dumps([json.loads(done.stdout), time.perf_counter() - begun, used]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", timed, *command], env=environment, stdout=subprocess.PIPE, check=True
    )
    printed, seconds, memory = json.loads(done.stdout)
    return printed, seconds, memory


def row_of(n_rows: int, n_bytes: int, seconds: float, memory: int) -> dict[str, Any]:
    return {
        "seconds": round(seconds, 1),
        "rows_per_second": round(n_rows / seconds),
        "mb_per_second": round(n_bytes / seconds / MEGABYTE, 1),
        "memory_mb": round(memory / MEGABYTE),
    }


def measure(folder: Path, n_chunks: int, postgres: str) -> dict[str, Any]:
    home, archive = folder / "home", folder / "backup.tar"
    with open_services(Settings(home=home)) as services:
        fill(services, n_chunks, 10, keep=False)
        build_index(services)
    written, seconds, memory = footnote(home, "backup", str(archive))
    n_rows, n_bytes = written["rows"], written["bytes"]
    result = {"chunks": n_chunks, "rows": n_rows, "archive_mb": round(n_bytes / MEGABYTE, 1)}
    result["database_mb"] = round((home / "footnote.db").stat().st_size / MEGABYTE, 1)
    result["backup"] = row_of(n_rows, n_bytes, seconds, memory)
    _, seconds, memory = footnote(home, "backup", str(archive), "--verify")
    result["verify"] = row_of(n_rows, n_bytes, seconds, memory)
    _, seconds, memory = footnote(folder / "data", "restore", str(archive), "--no-index")
    result["restore"] = row_of(n_rows, n_bytes, seconds, memory)
    _, both, memory = footnote(folder / "all", "restore", str(archive))
    result["index"] = {"seconds": round(both - seconds, 1), "memory_mb": round(memory / MEGABYTE)}
    if postgres:
        _, seconds, memory = footnote(folder / "pg", "restore", str(archive), "--no-index", url=postgres)
        result["restore_postgres"] = row_of(n_rows, n_bytes, seconds, memory)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=100_000, help="chunks")
    parser.add_argument("--postgres", default="", help="URL of an empty PostgreSQL database, to restore into")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = describe() | measure(Path(folder), arguments.n, arguments.postgres)
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
