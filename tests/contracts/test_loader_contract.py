"""What every loader promises, tried on one small document of each format."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexing.errors import LoadError
from indexing.loaders import LOADERS, LoadLimits, SourceFile, detect_format, load_file
from indexing.loaders.registry import loader_for
from indexing.types import LoadedText
from tests.unit.indexing.loaders.documents import DOCUMENTS, HEADING, WORDS
from tests.unit.indexing.loaders.invariants import assert_invariants, load_or_error


def test_every_format_is_tried() -> None:
    assert set(DOCUMENTS) == set(LOADERS)


@pytest.mark.parametrize("format_name", sorted(LOADERS))
class TestLoader:
    @pytest.fixture
    def source(self, format_name: str, tmp_path: Path) -> SourceFile:
        filename, build, _ = DOCUMENTS[format_name]
        # The bytes lie under a name without an extension, as they do in a content-addressed store.
        path = tmp_path / "0123456789abcdef"
        path.write_bytes(build())
        return SourceFile(path=path, filename=filename)

    def test_is_detected(self, format_name: str, source: SourceFile) -> None:
        assert detect_format(source.path, source.filename) == format_name

    def test_gives_the_words(self, format_name: str, source: SourceFile) -> None:
        loaded = loader_for(format_name)(source)
        assert_invariants(loaded)
        assert WORDS in loaded.text

    def test_gives_the_heading(self, format_name: str, source: SourceFile) -> None:
        loaded = loader_for(format_name)(source)
        titles = [heading.title for heading in loaded.headings]
        assert titles[:1] == ([HEADING] if DOCUMENTS[format_name][2] else [])
        for heading in loaded.headings:
            assert heading.title.split()[0] in loaded.text[heading.start : heading.end]

    def test_is_deterministic(self, format_name: str, source: SourceFile) -> None:
        assert loader_for(format_name)(source) == loader_for(format_name)(source)

    def test_keeps_the_limit_of_characters(self, format_name: str, source: SourceFile) -> None:
        with pytest.raises(LoadError) as caught:
            load_file(source.path, filename=source.filename, limits=LoadLimits(text_chars=10))
        assert caught.value.code == "too_large"

    def test_keeps_the_limit_of_bytes(self, format_name: str, source: SourceFile) -> None:
        with pytest.raises(LoadError) as caught:
            load_file(source.path, filename=source.filename, limits=LoadLimits(decompressed_bytes=10))
        assert caught.value.code == "too_large"

    def test_every_cut_gives_text_or_a_named_error(self, format_name: str, source: SourceFile) -> None:
        whole = source.path.read_bytes()
        for share in (0, 0.1, 0.5, 0.9, 0.99):
            source.path.write_bytes(whole[: int(share * len(whole))])
            result = load_or_error(source.path, source.filename)
            assert isinstance(result, LoadedText) or result.detail
