"""Memory of ingest and of the service: peaks of their processes, as the system counts them.

    python -m benchmarks.memory --json memory.json
    python -m benchmarks.memory --only pdf --ceiling 629145600

A worker ingests a text, once in ASCII and once with an emoji, which makes one Python string of it take four
bytes a character, and then a PDF. The vectors are made up, since encoding would take an hour; with
`--encoder default` it does. Meanwhile the resident memory of the worker and of its loaders is read every
20 ms.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from app import memory
from app.db import documents, jobs
from app.documents import intake
from app.services import Services, open_services
from app.settings import LoaderSettings, ServerSettings, Settings, WorkerSettings
from app.worker import Worker
from benchmarks.machine import describe
from indexing.encoding.factory import load_encoder
from indexing.encoding.fake import WordEncoder, word_vector
from indexing.token_codec import TRAINED_FOR
from indexing.types import TokenVectors

MEBIBYTE = 1 << 20
SAMPLE_SECONDS = 0.02
READ_BYTES = 1 << 16


def write_prose(path: Path, n_bytes: int, *, end: str = "") -> None:
    """Paragraphs of made-up sentences, no two chunks alike; `end` comes last."""
    rng = random.Random(7)
    words = ["".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randint(2, 10))) for _ in range(20_000)]
    with path.open("wb") as file:
        while file.tell() < n_bytes:
            sentences = (
                " ".join(words[min(int(rng.paretovariate(0.6)), len(words) - 1)] for _ in range(14))
                for _ in range(2_000)
            )
            lines = (
                f"{line.capitalize()}.{' ' if n % 5 else chr(10) * 2}" for n, line in enumerate(sentences)
            )
            file.write("".join(lines).encode())
        file.truncate(n_bytes)
        file.seek(n_bytes)
        file.write(end.encode())


def write_pdf(path: Path, n_pages: int, *, lines_a_page: int = 45) -> None:
    """A PDF with a text layer of one column; written by hand, since any library would hold it whole."""
    rng = random.Random(7)
    words = ["".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randint(2, 10))) for _ in range(5_000)]
    offsets: list[int] = []
    with path.open("wb") as file:

        def add(body: bytes) -> None:
            offsets.append(file.tell())
            file.write(b"%d 0 obj%s\nendobj\n" % (len(offsets), body))

        file.write(b"%PDF-1.4\n")
        add(b"<</Type/Catalog/Pages 2 0 R>>")
        kids = b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(n_pages))
        add(b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, n_pages))
        add(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
        for number in range(n_pages):
            page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>"
            add(page + b"/Contents %d 0 R>>" % (5 + 2 * number))
            lines = b"".join(
                b"BT /F1 10 Tf 72 %d Td (%s) Tj ET\n"
                % (740 - 15 * line, " ".join(rng.choices(words, k=11)).capitalize().encode() + b".")
                for line in range(lines_a_page)
            )
            add(b"<</Length %d>>stream\n%s\nendstream" % (len(lines), lines))
        start = file.tell()
        file.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1))
        file.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
        file.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(offsets) + 1, start))


class QuickEncoder(WordEncoder):
    """Vectors of words, of the size of the default model's and coded as its are: what is measured is all but
    encoding."""

    def __init__(self) -> None:
        super().__init__(dim=384)
        self._of_word = functools.lru_cache(1 << 16)(functools.partial(word_vector, dim=384))

    @property
    def name(self) -> str:
        return TRAINED_FOR

    def _token_vectors(self, text: str) -> TokenVectors:
        words = list(re.finditer(r"\w+", text))[: self.max_tokens - 2]
        return TokenVectors(
            vectors=np.array([self._of_word(word.group()) for word in words], np.float32).reshape(-1, 384),
            offsets=np.array([word.span() for word in words], np.int32).reshape(-1, 2),
        )


class Peaks:
    """The largest resident memory of a process, of all its children together, and of both; and what of its
    own it had at most without the pages of mapped files, which are the kernel's to drop."""

    def __init__(self, pid: int) -> None:
        self.own = self.allocated = self.children = self.together = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def as_json(self) -> dict[str, int]:
        return {
            "worker_mib": self.own // MEBIBYTE,
            "worker_allocated_mib": self.allocated // MEBIBYTE,
            "loaders_mib": self.children // MEBIBYTE,
            "together_mib": self.together // MEBIBYTE,
        }

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            mine = memory.usage(self._pid)
            own = mine.resident if mine else 0
            found = (memory.usage(child) for child in memory.children(self._pid))
            children = sum(used.resident for used in found if used)
            self.own = max(self.own, own)
            self.allocated = max(self.allocated, mine.anonymous if mine else 0)
            self.children = max(self.children, children)
            self.together = max(self.together, own + children)


def settings_of(home: Path, ceiling: int, loader_bytes: int) -> Settings:
    return Settings(
        home=home,
        worker=WorkerSettings(memory_bytes=ceiling),
        loader=LoaderSettings(memory_bytes=loader_bytes),
        server=ServerSettings(),
    )


@contextmanager
def opened(settings: Settings, encoder: str) -> Iterator[Services]:
    load = load_encoder if encoder == "default" else lambda _spec, _folder: QuickEncoder()
    with open_services(settings, load=load) as services:
        yield services


def work(home: Path, ceiling: int, loader_bytes: int, encoder: str) -> None:
    """What the worker process does: everything that is due, below its ceiling."""
    with opened(settings_of(home, ceiling, loader_bytes), encoder) as services:
        memory.keep_below(ceiling)
        Worker(services).drain()


def ingest(home: Path, path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One file, by a worker of its own; raises SystemExit where it does not become searchable."""
    with opened(settings_of(home, arguments.ceiling, arguments.loader_bytes), arguments.encoder) as services:
        with path.open("rb") as stream:
            accepted = intake.submit(services, intake.Submission(filename=path.name), stream)
        command = [sys.executable, "-m", "benchmarks.memory", "--work", str(home)]
        command += ["--ceiling", str(arguments.ceiling), "--loader-bytes", str(arguments.loader_bytes)]
        begun = time.perf_counter()
        process = subprocess.Popen([*command, "--encoder", arguments.encoder])
        with Peaks(process.pid) as peaks:
            code = process.wait()
        seconds = time.perf_counter() - begun
        with services.read() as session:
            document = documents.get(session, accepted.document.id)
            job = jobs.get(session, accepted.job.id if accepted.job else "")
    if code or (document.status != "ready" and not arguments.may_fail):
        raise SystemExit(f"{path.name}: exit code {code}, {document.status}: {document.error_detail}")
    return {
        "document": f"{document.id:x}",
        "file_mb": round(path.stat().st_size / 1e6, 1),
        "status": document.status,
        "error": job.error_code,
        "n_chunks": document.n_chunks,
        "n_pages": document.n_pages,
        "seconds": round(seconds, 1),
        **peaks.as_json(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mb", type=int, default=200, help="size of the text")
    parser.add_argument("--pages", type=int, default=2_000, help="pages of the PDF")
    parser.add_argument("--ceiling", type=int, default=WorkerSettings().memory_bytes)
    parser.add_argument("--loader-bytes", type=int, default=LoaderSettings().memory_bytes)
    parser.add_argument("--encoder", choices=["quick", "default"], default="quick")
    parser.add_argument("--only", choices=["ascii", "emoji", "pdf"], help="one of the files")
    parser.add_argument("--may-fail", action="store_true", help="report a document that fails, too")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.ceiling, arguments.loader_bytes, arguments.encoder)
        return
    result = describe() | {"ceiling_mib": arguments.ceiling // MEBIBYTE, "encoder": arguments.encoder}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in [arguments.only] if arguments.only else ["ascii", "emoji", "pdf"]:
            path = folder / ("long.pdf" if kind == "pdf" else f"{kind}.txt")
            if kind == "pdf":
                write_pdf(path, arguments.pages)
            else:
                write_prose(path, arguments.mb * 10**6, end="" if kind == "ascii" else " 😀\n")
            result[kind] = ingest(folder / kind, path, arguments)
            print(kind, json.dumps(result[kind]), flush=True)
            path.unlink()
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
