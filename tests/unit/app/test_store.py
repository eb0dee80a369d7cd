"""The store of original files: by content, once, whole or not at all."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from app.errors import PayloadTooLarge, Unavailable
from app.store import BLOCK, FileStore

BYTES = b"the same bytes"


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    folder = tmp_path / "files"
    folder.mkdir()
    return FileStore(folder)


def files_below(store: FileStore) -> list[Path]:
    return sorted(p for p in store.folder.rglob("*") if p.is_file() and not p.name.startswith("."))


@pytest.mark.parametrize("content", [b"", b"x", b"ab" * BLOCK], ids=["empty", "short", "two blocks"])
def test_a_file_is_kept_under_its_hash(store: FileStore, content: bytes) -> None:
    stored = store.add(io.BytesIO(content))
    assert stored.content_hash == sha256(content).hexdigest()
    assert stored.n_bytes == len(content)
    assert store.path(stored.content_hash).read_bytes() == content


def test_the_same_bytes_are_kept_once_and_stay_as_they_were(store: FileStore) -> None:
    first = store.add(io.BytesIO(BYTES))
    inode = store.path(first.content_hash).stat().st_ino
    assert store.add(io.BytesIO(BYTES)) == first
    assert files_below(store) == [store.path(first.content_hash)]
    assert store.path(first.content_hash).stat().st_ino == inode, "a reader keeps the file it has open"


def test_many_at_once_keep_one(store: FileStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        stored = set(threads.map(lambda _: store.add(io.BytesIO(BYTES * 9999)), range(16)))
    assert len(stored) == 1
    assert len(files_below(store)) == 1


def test_the_limit_is_the_largest_size_that_is_taken(store: FileStore) -> None:
    assert store.add(io.BytesIO(BYTES), max_bytes=len(BYTES)).n_bytes == len(BYTES)
    with pytest.raises(PayloadTooLarge, match="13 bytes"):
        store.add(io.BytesIO(BYTES + b"!"), max_bytes=len(BYTES) - 1)
    assert len(files_below(store)) == 1, "nothing is left of what was refused"


def test_a_stream_that_breaks_leaves_nothing(store: FileStore) -> None:
    class Broken(io.RawIOBase):
        def __init__(self) -> None:
            self.blocks = [b"begun", b""]

        def read(self, size: int = -1) -> bytes:
            if block := self.blocks.pop(0):
                return block
            raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost"):
        store.add(Broken())  # type: ignore[arg-type]
    assert files_below(store) == []


def test_a_kill_before_the_end_leaves_no_file_under_a_hash(store: FileStore) -> None:
    script = (
        "import os, sys; from pathlib import Path; from app.store import FileStore\n"
        "class Dying:\n"
        "    left = [b'x' * 100]\n"
        "    def read(self, size):\n"
        "        return self.left.pop() if self.left else os._exit(9)\n"
        "FileStore(Path(sys.argv[1])).add(Dying())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(store.folder)], check=False)
    assert done.returncode == 9
    assert {path.parent.name for path in files_below(store)} <= {"incoming"}
    stored = store.add(io.BytesIO(b"x" * 100))
    assert store.path(stored.content_hash).read_bytes() == b"x" * 100


def test_nothing_is_kept_in_the_place_of_a_folder_that_is_gone(store: FileStore, tmp_path: Path) -> None:
    store.folder.rename(tmp_path / "moved")
    with pytest.raises(Unavailable) as refused, store.adding():
        store.add(io.BytesIO(BYTES))
    assert refused.value.code == "storage_missing"
    with pytest.raises(FileNotFoundError):
        store.add(io.BytesIO(BYTES))
    assert not store.folder.exists()


def test_what_is_removed_is_gone_and_can_come_again(store: FileStore) -> None:
    stored = store.add(io.BytesIO(BYTES))
    assert store.remove(stored.content_hash)
    assert not store.remove(stored.content_hash)
    assert not store.path(stored.content_hash).exists()
    assert store.add(io.BytesIO(BYTES)) == stored
    assert store.path(stored.content_hash).read_bytes() == BYTES


def test_several_add_at_once_but_no_one_while_one_removes(store: FileStore) -> None:
    with store.adding(), store.adding():
        removing = in_thread(store.removing)
        assert not removing.wait(0.05), "a removal waits for those who add"
    assert removing.wait(5)
    with store.removing():
        adding = in_thread(store.adding)
        assert not adding.wait(0.05)
    assert adding.wait(5)


def in_thread(lock: Callable) -> threading.Event:  # type: ignore[type-arg]
    """Takes the lock in a thread and lets it go; the event says that it was had."""
    had = threading.Event()

    def take() -> None:
        with lock():
            had.set()

    threading.Thread(target=take, daemon=True).start()
    return had


def test_what_a_killed_copy_left_is_swept_away_and_nothing_else(store: FileStore) -> None:
    kept = store.add(io.BytesIO(BYTES))
    left, fresh = store.folder / "incoming" / "left", store.folder / "incoming" / "fresh"
    left.write_bytes(b"half")
    fresh.write_bytes(b"still being written")
    os.utime(left, (0, 0))
    assert store.sweep() == 1
    assert (left.exists(), fresh.exists(), store.path(kept.content_hash).exists()) == (False, True, True)
