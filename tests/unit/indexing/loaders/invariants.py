"""What holds for every LoadedText, written down a second time."""

from __future__ import annotations

import json
from pathlib import Path

from indexing.errors import LoadError
from indexing.loaders import LoadLimits, load_file
from indexing.types import LoadedText


def load_or_error(path: Path, filename: str, limits: LoadLimits | None = None) -> LoadedText | LoadError:
    """What comes of a file; any other exception than LoadError passes, and so fails the test."""
    try:
        loaded = load_file(path, filename=filename, limits=limits)
    except LoadError as error:
        return error
    assert_invariants(loaded)
    return loaded


def assert_invariants(loaded: LoadedText) -> None:
    text = loaded.text[:]
    assert text.strip()
    assert "\0" not in text
    assert "\r" not in text
    text.encode("utf-8")  # no lone surrogates
    for spans in (loaded.pages, loaded.headings, loaded.blocks):
        end = 0
        for span in spans:
            assert end <= span.start < span.end <= len(text)
            assert not text[span.start].isspace()
            assert not text[span.end - 1].isspace()
            end = span.end
    for heading in loaded.headings:
        assert heading.title
        assert heading.level >= 1
    assert len({page.page for page in loaded.pages}) == len(loaded.pages)
    assert loaded.title is None or loaded.title.strip() == loaded.title != ""
    json.dumps(dict(loaded.metadata), allow_nan=False)
