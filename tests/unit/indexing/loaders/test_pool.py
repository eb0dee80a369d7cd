from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indexing.errors import LoadError
from indexing.loaders import LoaderPool, LoadLimits, load_file
from tests.unit.indexing.loaders.documents import DOCUMENTS, WORDS, pdf, zip_of


@pytest.fixture(scope="module")
def pool() -> Iterator[LoaderPool]:
    with LoaderPool(2) as pool:
        yield pool


def error_code(pool: LoaderPool, path: Path, **options: float) -> str:
    with pytest.raises(LoadError) as caught:
        pool.load(path, filename=path.name, **options)  # type: ignore[arg-type]
    return caught.value.code


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def slow_file(folder: Path) -> Path:
    """A file that takes far longer to read than any test waits: Markdown with many link definitions."""
    return written(folder / "slow.md", "- > - > - > - > - x\n" * 60_000)


@pytest.mark.parametrize("format_name", sorted(DOCUMENTS))
def test_child_gives_what_this_process_gives(pool: LoaderPool, tmp_path: Path, format_name: str) -> None:
    filename, build, _ = DOCUMENTS[format_name]
    path = written(tmp_path / filename, build())
    assert pool.load(path, filename=filename) == load_file(path, filename=filename)


def test_errors_come_back_with_their_code(pool: LoaderPool, tmp_path: Path) -> None:
    assert error_code(pool, written(tmp_path / "a.png", b"\x89PNG\r\n\x1a\n")) == "unsupported_format"
    assert error_code(pool, written(tmp_path / "a.txt", " \n ")) == "empty_file"
    assert error_code(pool, written(tmp_path / "a.docx", b"PK\x03\x04 no zip")) == "corrupt_file"
    assert error_code(pool, tmp_path / "absent.txt") == "corrupt_file"


def test_time_limit_ends_the_child_and_the_next_file_is_read(tmp_path: Path) -> None:
    with LoaderPool() as pool:
        quick = written(tmp_path / "a.txt", WORDS)
        pool.load(quick, filename="a.txt")
        started = time.monotonic()
        assert error_code(pool, slow_file(tmp_path), timeout_seconds=0.2) == "loader_timeout"
        assert time.monotonic() - started < 3
        assert pool.load(quick, filename="a.txt").text == WORDS


def test_time_limit_counts_processor_time(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", WORDS)
    with LoaderPool() as pool:
        pool.load(path, filename="a.txt")
        child = child_pid(pool)
        os.kill(child, signal.SIGSTOP)
        wakes = threading.Timer(0.4, os.kill, (child, signal.SIGCONT))
        wakes.start()
        assert pool.load(path, filename="a.txt", timeout_seconds=0.3).text == WORDS
        assert child_pid(pool) == child
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(LoadError, match=r"takes over 0\.4 seconds") as caught:
            pool.load(path, filename="a.txt", timeout_seconds=0.1)
        assert caught.value.code == "loader_timeout"
        with pytest.raises(LoadError, match=r"0\.2 seconds of processor time"):
            pool.load(slow_file(tmp_path), filename="slow.md", timeout_seconds=0.2)


def test_memory_limit_is_a_named_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", "[" + ",".join(["[]"] * 8_000_000) + "]")
    with LoaderPool(limits=LoadLimits(memory_bytes=400 << 20)) as pool:
        assert error_code(pool, path) == "loader_memory"
        assert pool.load(written(tmp_path / "b.txt", WORDS), filename="b.txt").text == WORDS


def child_pid(pool: LoaderPool) -> int:
    """The process that reads for this pool: the only child of this process that runs the loader."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{pid}/cmdline").read_text()
            folder = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if int(status[1]) == os.getpid() and "indexing.loaders.child" in command and folder == pool.folder:
            return int(pid)
    raise AssertionError("no child runs")


def test_killed_child_is_a_named_error_once(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", WORDS)
    with LoaderPool() as pool:
        pool.load(path, filename="a.txt")
        os.kill(child_pid(pool), signal.SIGKILL)
        assert error_code(pool, path) == "loader_crashed"
        assert pool.load(path, filename="a.txt").text == WORDS


def test_answer_that_was_given_up_is_not_taken_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(parts: Iterator[bytes]) -> None:
        next(parts)
        raise MemoryError

    long = written(tmp_path / "long.txt", f"{WORDS} " * 60_000)
    short = written(tmp_path / "short.txt", "Another text.")
    with LoaderPool() as pool:
        with monkeypatch.context() as patch:
            patch.setattr("indexing.loaders.pool.LongText", short_of_memory)
            with pytest.raises(MemoryError):
                pool.load(long, filename="long.txt")
        assert pool.load(short, filename="short.txt").text == "Another text."


def test_child_is_replaced_after_its_share_of_files(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", WORDS)
    with LoaderPool(files_per_child=2) as pool:
        pids = []
        for _ in range(4):
            pool.load(path, filename="a.txt")
            pids.append(child_pid(pool))
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_child_is_limited(tmp_path: Path) -> None:
    with LoaderPool(limits=LoadLimits(memory_bytes=1 << 30)) as pool:
        pool.load(written(tmp_path / "a.txt", WORDS), filename="a.txt")
        pid = child_pid(pool)
        limits = Path(f"/proc/{pid}/limits").read_text()
        environment = Path(f"/proc/{pid}/environ").read_text()
        maps = Path(f"/proc/{pid}/maps").read_text()
    rows = {line[:26].strip(): line[26:].split() for line in limits.splitlines()}
    assert rows["Max address space"][:2] == [str(1 << 30)] * 2
    assert rows["Max file size"][:2] == ["0", "0"]
    assert rows["Max processes"][:2] == ["0", "0"]
    assert int(rows["Max open files"][1]) <= 64
    assert "FOOTNOTE" not in environment
    assert "torch" not in maps


def test_child_does_not_see_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTNOTE_TOKEN", "very-secret")
    with LoaderPool() as pool:
        pool.load(written(tmp_path / "a.txt", WORDS), filename="a.txt")
        assert "very-secret" not in Path(f"/proc/{child_pid(pool)}/environ").read_text()


def test_threads_share_the_pool(pool: LoaderPool, tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{number}.txt", f"text {number}") for number in range(60)]
    with ThreadPoolExecutor(8) as threads:
        texts = list(threads.map(lambda path: pool.load(path, filename=path.name).text, paths))
    assert texts == [f"text {number}" for number in range(60)]


def test_small_files_are_quick(pool: LoaderPool, tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", WORDS)
    pool.load(path, filename="a.txt")
    seconds = []
    for _ in range(3):  # the best of three, for the machine may be busy
        started = time.monotonic()
        for _ in range(100):
            pool.load(path, filename="a.txt")
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 100 / 300


def test_close_ends_a_load_that_runs(tmp_path: Path) -> None:
    pool = LoaderPool()
    codes: list[str] = []
    thread = threading.Thread(target=lambda: codes.append(error_code(pool, slow_file(tmp_path))))
    thread.start()
    time.sleep(0.6)
    pool.close()
    thread.join(10)
    assert codes == ["loader_crashed"]
    with pytest.raises(RuntimeError, match="closed"):
        pool.load(tmp_path / "slow.md", filename="slow.md")


PARENT = """
import sys, threading, time
from pathlib import Path
from indexing.loaders import LoaderPool
pool = LoaderPool()
path = Path(sys.argv[1])
pool.load(Path(sys.argv[2]), filename="a.txt")
threading.Thread(target=lambda: pool.load(path, filename=path.name), daemon=True).start()
time.sleep(0.3)
print(pool.folder, flush=True)
time.sleep(60)
"""


def test_child_ends_when_its_parent_is_killed_in_the_middle_of_a_file(tmp_path: Path) -> None:
    arguments = [str(slow_file(tmp_path)), str(written(tmp_path / "a.txt", WORDS))]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    ) as parent:
        assert parent.stdout is not None
        folder = parent.stdout.readline().strip()
        children = [pid for pid in filter(str.isdecimal, os.listdir("/proc")) if _runs_in(pid, folder)]
        parent.kill()
    assert len(children) == 1
    deadline = time.monotonic() + 5
    while _runs_in(children[0], folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs_in(pid: str, folder: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == folder
    except OSError:
        return False


def test_members_over_the_limit_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    bomb = zip_of({"word/document.xml": b"<a>" + b" " * 3_000_000 + b"</a>"})
    assert len(bomb) < 5000
    with LoaderPool(limits=LoadLimits(decompressed_bytes=1_000_000)) as pool:
        assert error_code(pool, written(tmp_path / "a.docx", bomb)) == "too_large"


def test_pages_come_through(pool: LoaderPool, tmp_path: Path) -> None:
    loaded = pool.load(written(tmp_path / "a.pdf", pdf("one leaf", "another leaf")), filename="a.pdf")
    assert [loaded.text[page.start : page.end] for page in loaded.pages] == ["one leaf", "another leaf"]
    assert [page.page for page in loaded.pages] == [1, 2]
