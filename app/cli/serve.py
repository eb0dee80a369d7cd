"""`footnote serve`, `footnote worker` and `footnote quickstart`."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from app import memory
from app.cli.context import HomeOption, console, errors, fail, read_settings, reported
from app.cli.ingest import _files as files_below
from app.cli.ingest import ingest_files, print_report
from app.cli.progress import progress
from app.cli.search import ask
from app.lanes import Lanes
from app.logs import configure_logging
from app.main import create_app
from app.search.searching import SearchRequest
from app.services import Services, open_services
from app.settings import LogSettings, Settings
from app.worker import Worker

HostOption = Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")]
PortOption = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one. [default: 8080]")
]

RESTART_SECONDS = 1.0
SHOWN = "What happens to a job when its worker is killed?"
QUESTIONS = (
    "How are the scores of BM25 and of the vectors combined?",
    "When does Footnote abstain from answering?",
    "How do I go back to the index version that was served before?",
)


def serve_command(
    host: HostOption = None,
    port: PortOption = None,
    worker: Annotated[bool, typer.Option(help="Run a worker beside the service.")] = True,
    home: HomeOption = None,
) -> None:
    """Serve the HTTP API, with a worker process beside it.

    Ctrl-C or SIGTERM ends both; work in hand is finished or goes back to the queue.
    """
    settings = read_settings(home)
    configure_logging(settings.log)
    with reported(), open_services(settings) as services:
        serve(
            services,
            host or settings.server.host,
            settings.server.port if port is None else port,
            worker=worker,
        )


def serve(services: Services, host: str, port: int, *, worker: bool) -> None:
    """Blocks until a signal ends it."""
    memory.keep_below(services.settings.server.memory_bytes)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(services, _hosts(services.settings, host)),
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=services.settings.server.shutdown_seconds,
        )
    )
    # When it has shut down in good order, the server raises the signal that ended it once more. This is the
    # end of the command and no failure, so nobody else is to act on it.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: None)
    with _worker_beside(services.settings) if worker else nullcontext():
        try:
            server.run()
        except SystemExit:  # with a code of the server's own, where it has not begun
            fail(f"The service did not start on {host}:{port}; the log above says why.")


def _hosts(settings: Settings, address: str) -> tuple[str, ...]:
    """The names to answer to: those set; else `localhost` where only this machine can ask, else any."""
    if settings.server.hosts is not None:
        return settings.server.hosts
    return ("localhost",) if address in ("127.0.0.1", "::1", "localhost") else ()


@contextmanager
def _worker_beside(settings: Settings) -> Iterator[None]:
    """A worker process for as long as the block runs; it is started again when it dies."""
    stopping = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def supervise() -> None:
        while not stopping.is_set():
            process = _start_worker(settings)
            running[:] = [process]
            if stopping.is_set():
                process.terminate()
            process.wait()
            stopping.wait(RESTART_SECONDS)

    thread = threading.Thread(target=supervise, name="worker-supervisor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        for process in running:
            process.terminate()
            try:
                process.wait(timeout=settings.server.shutdown_seconds)
            except subprocess.TimeoutExpired:
                process.kill()  # its jobs go back to the queue when their lease ends
        thread.join(timeout=5)


def _start_worker(settings: Settings) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "app.cli",
        "worker",
        "--home",
        str(settings.home),
        "--parent",
        str(os.getpid()),
    ]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def worker_command(
    once: Annotated[bool, typer.Option(help="Stop when nothing is left to do.")] = False,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
    home: HomeOption = None,
) -> None:
    """Run a worker: it ingests what was sent in and keeps the indexes up to date.

    Any number may run, on other machines too where they share the database (PostgreSQL) and the data folder.
    """
    settings = read_settings(home)
    configure_logging(settings.log)
    os.nice(settings.worker.nice)
    memory.keep_below(settings.worker.memory_bytes)
    with reported(), open_services(settings, patient=not once) as services:
        worker = Worker(services) if once else Lanes(services)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: worker.stop())
        if parent is not None:
            _stop_without(parent, worker.stop)
        worker.drain() if isinstance(worker, Worker) else worker.run()


def _stop_without(parent: int, stop: Callable[[], None]) -> None:
    """Stops the worker when the process that started it is gone, also when that one was killed."""

    def watch() -> None:
        pause = threading.Event()
        while os.getppid() == parent:
            pause.wait(1.0)
        stop()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def quickstart_command(
    folder: Annotated[Path, typer.Argument(help="The documents to begin with.", exists=True)],
    question: Annotated[str, typer.Option(help="The question to show.")] = SHOWN,
    serve_after: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve afterwards.")] = True,
    host: HostOption = None,
    port: PortOption = None,
    home: HomeOption = None,
) -> None:
    """Ingest a folder, answer one question about it, then serve."""
    settings = read_settings(home)
    configure_logging(LogSettings(level="WARNING", format="text"))
    with reported(), open_services(settings) as services:
        files = files_below([folder], [], [])
        console.print(f"Ingesting {len(files)} documents from {folder} …", markup=False)
        with progress(errors) as say:
            report = ingest_files(services, files, "default", say=say)
        print_report(report)
        console.print(f"\nQ: {question}\n", style="bold", markup=False)
        ask(services, SearchRequest(query=question, top_k=services.settings.answer.top_k), None, show=True)
        if serve_after:
            address = host or settings.server.host, settings.server.port if port is None else port
            _print_invitation(settings, *address)
            serve(services, *address, worker=True)


def _print_invitation(settings: Settings, host: str, port: int) -> None:
    command, home = shlex.quote(_command_path()), shlex.quote(_short(settings.home))
    url = f"http://{host}:{port}"
    body = json.dumps({"query": QUESTIONS[2]})
    lines = (
        f"\nFootnote is at {url} (Ctrl-C ends it). Three questions to try, in another terminal:\n",
        f"  {command} ask {shlex.quote(QUESTIONS[0])} --home {home}",
        f"  {command} ask {shlex.quote(QUESTIONS[1])} --home {home}",
        f"  curl -s {url}/v1/answer -H 'Content-Type: application/json' -d {shlex.quote(body)}\n",
    )
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _command_path() -> str:
    """How the user called us, as short as it can be."""
    called = Path(sys.argv[0]).absolute()
    return _short(called) if called.is_relative_to(Path.cwd()) else "footnote"


def _short(path: Path) -> str:
    """The path from where the user is, if it is below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
