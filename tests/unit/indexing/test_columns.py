"""Columns in one file: what is written is read, and what is not whole is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from indexing.columns import Streamed, read_columns, write_columns
from indexing.errors import IndexDamaged

COLUMNS = {
    "ids": np.arange(5, dtype=np.int64),
    "none": np.empty(0, dtype=np.uint32),
    "halves": np.linspace(0, 1, 33, dtype=np.float16),
    "bytes": np.arange(7, dtype=np.uint8),
}


def test_columns_come_back_read_only(tmp_path: Path) -> None:
    write_columns(tmp_path / "a", COLUMNS)
    read = read_columns(tmp_path / "a")
    assert list(read) == list(COLUMNS)
    for name, column in COLUMNS.items():
        np.testing.assert_array_equal(read[name], column)
        assert read[name].dtype == column.dtype
        assert not read[name].flags.writeable


def test_no_columns_at_all(tmp_path: Path) -> None:
    write_columns(tmp_path / "a", {})
    assert read_columns(tmp_path / "a") == {}


def test_a_streamed_column_is_the_same_as_a_whole_one(tmp_path: Path) -> None:
    ids = np.arange(1000, dtype=np.uint32)
    parts = (ids[start : start + 300] for start in range(0, 1000, 300))
    write_columns(tmp_path / "parts", {"ids": Streamed(dtype=ids.dtype, length=1000, parts=parts)})
    write_columns(tmp_path / "whole", {"ids": ids})
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_streamed_column_of_another_length_is_refused(tmp_path: Path) -> None:
    column = Streamed(dtype=np.dtype(np.uint8), length=3, parts=[np.zeros(2, dtype=np.uint8)])
    with pytest.raises(ValueError, match="2 entries instead of 3"):
        write_columns(tmp_path / "a", {"short": column})


def test_any_damage_of_the_header_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_columns(path, COLUMNS)
    data = path.read_bytes()
    for place in range(data.index(b"}") + 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x81]) + data[place + 1 :])
        with pytest.raises(IndexDamaged):
            read_columns(path)


@pytest.mark.parametrize("size", [0, 7, 15, 40, -1])
def test_a_cut_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a"
    write_columns(path, COLUMNS)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(IndexDamaged):
        read_columns(path)
