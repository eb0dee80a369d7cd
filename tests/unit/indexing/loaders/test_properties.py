"""Any bytes under any name give lawful text or a LoadError, never another exception."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexing.loaders import LoadLimits
from indexing.loaders.detection import FORMATS_BY_EXTENSION
from tests.unit.indexing.loaders.documents import DOCUMENTS
from tests.unit.indexing.loaders.invariants import load_or_error

LIMITS = LoadLimits(decompressed_bytes=4 << 20, text_chars=1 << 20)
SAMPLES = {name: build() for name, (_, build, _) in DOCUMENTS.items()}

extensions = st.sampled_from(sorted(set(FORMATS_BY_EXTENSION) | {"", "zip", "nothing"}))
markup = st.text(
    st.sampled_from("ab1 \n\t#*-=|<>/&;:\"'{}[](),.%\\$`~^_+!?\0\r\u200b\u0301é東\U0001f600"), max_size=200
)


def check(data: bytes, filename: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blob"
        path.write_bytes(data)
        load_or_error(path, filename, LIMITS)
        assert [entry.name for entry in Path(folder).iterdir()] == ["blob"]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), extensions)
def test_any_bytes(data: bytes, extension: str) -> None:
    check(data, f"a.{extension}")


@settings(max_examples=500, deadline=None)
@given(markup, extensions)
def test_any_markup(text: str, extension: str) -> None:
    check(text.encode("utf-8", "surrogatepass"), f"a.{extension}")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.large_base_example])
@given(st.data())
def test_damaged_documents(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SAMPLES)))
    damaged = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(damaged) // 2, len(damaged)))
    check(bytes(damaged[:cut]), DOCUMENTS[name][0])
