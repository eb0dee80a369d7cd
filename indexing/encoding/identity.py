"""What makes two encoders the same: a digest over everything that changes a vector."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

_READ_BYTES = 1 << 20


def fingerprint(parts: Mapping[str, str | int | float | bool | None]) -> str:
    """16 hexadecimal digits over the named parts, whatever their order.

    >>> fingerprint({"dim": 384, "prompt": ""}) == fingerprint({"prompt": "", "dim": 384})
    True
    >>> fingerprint({"dim": 384}) == fingerprint({"dim": 256})
    False
    """
    return sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def files_sha256(folder: Path, names: Iterable[str]) -> str:
    """One sha256 over the names and bytes of files of a folder, in the order of their names."""
    digest = sha256()
    for name in sorted(names):
        digest.update(f"{name}\0{file_sha256(folder / name)}\n".encode())
    return digest.hexdigest()
