"""Search by PyTorch against search by FAISS: the same hits, filters honoured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from indexing.device_scan import DeviceScans, open_device
from indexing.errors import DeviceMissing
from indexing.snapshot import Snapshot
from indexing.version import VersionWriter
from tests.small_index import build_index, made_up_chunks, unit_vectors

CHUNKS = made_up_chunks(500, seed=21, dim=24)
QUERIES = unit_vectors(8, 24, np.random.default_rng(22))
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
        ],
    ),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device") / "v"
    build_index(folder, CHUNKS.rows(slice(0, 300)), CHUNKS.rows(slice(300, 500))).close()
    with VersionWriter(folder) as writer, writer.commit(change=3) as commit:
        commit.replace_documents(np.unique(CHUNKS.document_ids)[:7])
    return folder


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("step", [None, 2, 9, 1000], ids=["all", "half", "few", "one"])
def test_a_device_finds_what_the_processor_finds(directory: Path, device: str, step: int | None) -> None:
    allowed = None if step is None else np.unique(CHUNKS.document_ids)[8::step]
    scans = DeviceScans(torch.device(device))
    with Snapshot.open(directory) as plain, Snapshot.open(directory, scans=scans) as on_device:
        for query in QUERIES:
            for limit in (1, 10, 400):
                expected = plain.vectors.search(query, limit, plain.select(allowed))
                found = on_device.vectors.search(query, limit, on_device.select(allowed))
                np.testing.assert_array_equal(found.chunk_ids, expected.chunk_ids)
                np.testing.assert_array_equal(found.scores, expected.scores)


def test_a_segment_without_room_on_the_device_is_searched_on_the_processor(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("indexing.device_scan.DeviceMatrix", no_room)
    scans = DeviceScans(torch.device("cpu"))
    with Snapshot.open(directory) as plain, Snapshot.open(directory, scans=scans) as on_device:
        expected = plain.vectors.search(QUERIES[0], 10)
        np.testing.assert_array_equal(on_device.vectors.search(QUERIES[0], 10).chunk_ids, expected.chunk_ids)


def test_the_processor_is_no_device_and_an_absent_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_device("cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceMissing, match="FOOTNOTE_VECTORS_DEVICE"):
        open_device("cuda")
