"""Folders as `ingest` and `sync` see them: which files count, and what each is called as a source."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import file_digest
from io import BufferedReader
from itertools import accumulate
from pathlib import Path

SKIPPED_FOLDERS = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv"}
DATA_FOLDERS = {"files", "indexes", "models"}
"""Where these stand together is a data folder of Footnote; what it writes there is no one's document."""
KEPT_FOLDERS = DATA_FOLDERS | {"syncs"}
DATA_FILES = ("footnote.db", "database.json", "replaced-")


@dataclass(frozen=True, slots=True)
class Rules:
    """Patterns that say which files count, as `Path.match` reads them; without any, all files do."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def choose(self, path: Path) -> bool:
        """
        >>> Rules(exclude=("*.tmp",)).choose(Path("/docs/a.tmp"))
        False
        """
        return (not self.include or any(path.match(pattern) for pattern in self.include)) and not any(
            path.match(pattern) for pattern in self.exclude
        )


ALL_FILES = Rules()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file as the folder shows it; `source` is how it is known in a collection."""

    path: Path
    source: str
    n_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A file or folder that could not be read, and why."""

    source: str
    code: str
    detail: str


@dataclass(slots=True)
class Scan:
    """What a look at a folder gave; of what lies below `unreadable` nothing is known."""

    files: list[FoundFile] = field(default_factory=list)
    unreadable: list[Trouble] = field(default_factory=list)

    def knows(self, source: str) -> bool:
        """Whether a file of this source would have been seen, had it been there."""
        return not any(
            source == trouble.source or source.startswith(trouble.source.rstrip("/") + "/")
            for trouble in self.unreadable
        )


def source_of(path: Path) -> str:
    r"""The absolute path as text; bytes that are no UTF-8 are written as `\xNN`.

    >>> source_of(Path("/docs") / b"caf\xe9.txt".decode(errors="surrogateescape"))
    '/docs/caf\\xe9.txt'
    """
    return readable(os.path.abspath(path))


def readable(name: str) -> str:
    """A file name as text that can be stored."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def scan(root: Path, rules: Rules) -> Scan:
    """The files below a folder, in the order of their names. Raises OSError where the folder cannot be read.

    Hidden files are left out, and so are folders of version control and the like, and what Footnote keeps in
    its data folder; links to folders are not followed, so no loop is walked for ever. A link that leads
    nowhere counts as unreadable, not as gone.
    """
    with os.scandir(root):
        pass
    found = Scan()
    for path in walk(root, found.unreadable):
        if not rules.choose(path):
            continue
        try:
            status = path.stat()
        except OSError as error:
            if path.is_symlink() or not isinstance(error, FileNotFoundError):
                found.unreadable.append(unreadable(path, error))
            continue
        if stat.S_ISREG(status.st_mode):  # a pipe would be read for ever
            found.files.append(
                FoundFile(
                    path=path,
                    source=source_of(path),
                    n_bytes=status.st_size,
                    modified_ns=status.st_mtime_ns,
                )
            )
    return found


def walk(root: Path, unreadable_folders: list[Trouble] | None = None) -> Iterator[Path]:
    """Everything below a folder that is no folder and not hidden, sorted; folders that refuse are noted."""

    def refused(error: OSError) -> None:
        if unreadable_folders is not None and not isinstance(error, FileNotFoundError):
            unreadable_folders.append(unreadable(Path(error.filename), error))

    for parent, folders, names in os.walk(root, onerror=refused):
        left_out: tuple[str, ...] = (".",)
        skipped = SKIPPED_FOLDERS
        if DATA_FOLDERS.issubset(folders):
            left_out, skipped = (".", *DATA_FILES), SKIPPED_FOLDERS | KEPT_FOLDERS
        folders[:] = sorted(name for name in folders if name not in skipped)
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith(left_out))


def chosen(paths: Sequence[Path], rules: Rules) -> dict[Path, str]:
    """The source of each file among these paths and below those that are folders."""
    found: dict[Path, str] = {}
    for given in paths:
        for path in walk(given) if given.is_dir() else [given]:
            if rules.choose(path) and not _is_special(path):
                found[path] = source_of(path)
    return found


def is_shown(root: str, source: str) -> bool:
    """Whether a scan of the root shows a file of this source if there is one: whether it comes by there."""
    start = root.rstrip("/")
    *folders, name = source.removeprefix(start + "/").split("/")
    if name.startswith(".") or not SKIPPED_FOLDERS.isdisjoint(folders):
        return False
    parents = [f"{start}/{folder}" for folder in accumulate(folders, "{}/{}".format)]
    return not any(os.path.islink(parent) or _is_kept_by_footnote(parent) for parent in parents)


def _is_kept_by_footnote(folder: str) -> bool:
    """Whether it is a folder of a data folder, of which a scan shows nothing."""
    home, name = os.path.split(folder)
    return name in KEPT_FOLDERS and all(os.path.isdir(f"{home}/{other}") for other in DATA_FOLDERS)


def may_be_file(source: str) -> bool:
    """Whether a file is there as a scan would take it, or may be: a link that leads nowhere now counts, and a
    folder or a pipe in the place of a file does not."""
    try:
        return stat.S_ISREG(os.stat(source).st_mode)
    except OSError as error:
        return os.path.islink(source) or not isinstance(error, FileNotFoundError | NotADirectoryError)


def identity_of(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another at its place, such as a disk mounted there; None if it is missing."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def open_file(path: Path) -> BufferedReader:
    """A file to be read. Raises OSError, also for a pipe that came to its place since the folder was looked
    at: to open one waits for a writer, perhaps for ever."""
    stream = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise OSError(errno.EINVAL, "it is no plain file")


def digest(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hexadecimal digits. Raises OSError."""
    with open_file(path) as stream:
        return file_digest(stream, "sha256").hexdigest()


def unreadable(path: Path, error: OSError) -> Trouble:
    return Trouble(source=source_of(path), code="unreadable", detail=error.strerror or str(error))


def _is_special(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device, of which reading may never end."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False  # said when it is read
