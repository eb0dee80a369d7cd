"""The open snapshots of the index versions that this process reads."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from indexing.device_scan import DeviceScans
from indexing.errors import IndexDamaged, IndexMissing
from indexing.nodes import NodeKind
from indexing.snapshot import Snapshot, check_encoder
from indexing.version import NODES_NAME

Stamp = tuple[int, int]


def nodes_name(version_id: str, kind: NodeKind) -> str:
    """Where the index of a version's nodes is, below the folder of the index versions."""
    return f"{version_id}/{NODES_NAME}/{kind}"


@dataclass(frozen=True, slots=True)
class _Opened:
    stamp: Stamp
    snapshot: Snapshot


class SnapshotCache:
    """Gives the newest committed snapshot of a version; a request keeps the one it was given.

    A snapshot is replaced when the version's manifest file is another one than at the last look, so a
    commit is seen by the next request. The replaced snapshot lives on while a request holds it.
    """

    def __init__(self, indexes_dir: Path, scans: DeviceScans | None = None) -> None:
        """With `scans`, vectors are searched on their device."""
        self.indexes_dir = indexes_dir
        self._scans = scans
        self._opened: dict[str, _Opened] = {}
        self._lock = threading.Lock()

    def get(self, version_id: str, expected_fingerprint: str | None = None) -> Snapshot:
        """Raises IndexMissing, IndexDamaged or EncoderMismatch (see indexing.errors)."""
        directory = self.indexes_dir / version_id
        opened = self._opened.get(version_id)
        if opened is not None and opened.stamp == _stamp(directory):
            check_encoder(opened.snapshot.manifest, expected_fingerprint)
            return opened.snapshot
        with self._lock:
            stamp = _stamp(directory)
            opened = self._opened.get(version_id)
            if opened is None or opened.stamp != stamp:
                # The stamp is read first: a commit between the two lines is looked at again next time. What
                # the commit left as it was is not opened again.
                snapshot = Snapshot.open(
                    directory,
                    expected_fingerprint=expected_fingerprint,
                    previous=opened.snapshot if opened else None,
                    scans=self._scans,
                )
                opened = _Opened(stamp, snapshot)
                self._opened[version_id] = opened
            return opened.snapshot

    def forget(self, version_id: str) -> None:
        """Drops a version that is no longer served."""
        with self._lock:
            self._opened.pop(version_id, None)


def _stamp(directory: Path) -> Stamp:
    try:
        stat = (directory / "manifest.json").stat()
    except FileNotFoundError:
        raise IndexMissing(
            f"The index version in {directory} is missing; `footnote index rebuild` makes it anew."
        ) from None
    except NotADirectoryError as error:
        raise IndexDamaged(f"The index version in {directory} is a file and no folder.") from error
    return stat.st_ino, stat.st_mtime_ns
