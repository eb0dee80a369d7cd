"""Works and kills for as long as is wanted, and holds what is left against a model of what was acknowledged.

    python -m benchmarks.soak --minutes 60
    python -m benchmarks.soak --minutes 10 --workers 4 --seed 7 --json soak.json

A service, workers and commands run as processes of their own, and are killed with SIGKILL at chosen points
and at chance instants. After each round everything is looked at; the first violation ends the soak with exit
code 1 and leaves the data folder for whoever looks into it. The encoder is the one of the tests: nothing
about speed is measured here.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.harness.storm import Report, storm


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="of an earlier soak: the same operations at other instants")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--operations", type=int, default=40, help="in a round")
    parser.add_argument("--database", default="", help="an empty PostgreSQL database; default: SQLite")
    parser.add_argument("--folder", type=Path, help="where the data go; default: a new temporary folder")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="footnote-soak-"))
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    ends = time.monotonic() + 60 * given.minutes
    print(f"seed {seed}, data in {folder}", flush=True)
    report = storm(
        folder,
        given.database,
        seed=seed,
        go_on=lambda _: time.monotonic() < ends,
        n_operations=given.operations,
        n_workers=given.workers,
        say=_say,
    )
    if given.json is not None:
        settings = {"workers": given.workers, "cores": os.cpu_count(), "postgres": bool(given.database)}
        given.json.write_text(json.dumps(settings | report.as_json(), indent=1) + "\n")
    for violation in report.violations:
        print(f"VIOLATION {violation}")
    return 1 if report.violations else 0


def _say(report: Report) -> None:
    parts = (
        f"{report.seconds / 60:6.1f} min",
        f"round {report.n_rounds}",
        f"{sum(report.operations.values())} operations ({report.n_unknown} unanswered)",
        f"{report.n_kills} kills ({len(report.kills_at_points)} of the points)",
        f"{report.n_started} starts",
        f"{report.n_documents} documents",
        f"{len(report.violations)} violations",
    )
    print(", ".join(parts), flush=True)


if __name__ == "__main__":
    sys.exit(main())
