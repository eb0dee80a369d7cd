"""Where the development collections lie, if they do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def shared_data_dir() -> Path | None:
    """The folder of development collections: FOOTNOTE_SHARED_DATA, else `../shared/data`."""
    named = os.environ.get("FOOTNOTE_SHARED_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def require_shared(*parts: str) -> Path:
    """A file or folder of the development collections; the test is skipped where it is absent."""
    folder = shared_data_dir()
    if folder is None or not folder.joinpath(*parts).exists():
        pytest.skip(f"development collection {'/'.join(parts)} is not beside this checkout")
    return folder.joinpath(*parts)
