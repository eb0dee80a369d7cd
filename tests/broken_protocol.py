"""The commit protocol, broken on purpose: what a harness that kills writers must be able to notice.

Nothing of this is in the program: a process that is to misbehave calls `break_protocol` before it commits,
and a harness starts its processes as `python -c "from tests.broken_protocol import break_protocol; …"`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from indexing import commit, files, merging, version
from indexing import manifest as manifests
from indexing.manifest import Manifest, save_manifest

Fault = Literal["manifest-before-segment", "manifest-in-place"]


def break_protocol(fault: Fault) -> None:
    """From now on this process commits wrongly.

    `manifest-before-segment`: segments get their names after the manifest has named them.
    `manifest-in-place`: the manifest is written over the old one instead of beside it. Both give the right
    state in the end: only a kill between shows it.
    """
    {"manifest-before-segment": _manifest_first, "manifest-in-place": _manifest_in_place}[fault]()


def _manifest_first() -> None:
    waiting: list[tuple[Path, Path]] = []

    def save(directory: Path, manifest: Manifest) -> None:
        save_manifest(directory, manifest)
        while waiting:
            files.publish_directory(*waiting.pop())

    for module in (commit, merging):
        assert hasattr(module, "publish_directory"), "what it calls is what is broken"
        module.publish_directory = lambda working, final: waiting.append((working, final))  # type: ignore
    version.save_manifest = save  # type: ignore[attr-defined, unused-ignore]


def _manifest_in_place() -> None:
    def replace_file(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            files.checkpoint(f"{path.stem}-written")
            file.write(data[len(data) // 2 :])
        files.checkpoint(f"{path.stem}-renamed")

    manifests.replace_file = replace_file  # type: ignore[attr-defined]
