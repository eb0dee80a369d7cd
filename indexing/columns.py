"""Columns of numbers in one file, mapped when read: fewer files to flush, to map and to check than one each.

The file is a magic word, the size of the header and its CRC-32, the header in JSON (name, type and length of
every column), and the columns one after another, each on a boundary of 64 bytes.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from indexing.errors import IndexDamaged

_MAGIC = b"footcol1"
_ALIGNMENT = 64
_MAX_HEADER_BYTES = 65_536

Column = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """A column that is written part by part and never held whole."""

    dtype: np.dtype[Any]
    length: int
    parts: Iterable[Column]


def write_columns(path: Path, columns: Mapping[str, Column | Streamed]) -> None:
    """Writes one-dimensional columns; raises ValueError if a streamed one has another length than it says."""
    streams = {name: _streamed(column) for name, column in columns.items()}
    header = json.dumps(
        {name: [column.dtype.str, column.length] for name, column in streams.items()}
    ).encode()
    with path.open("wb") as file:
        file.write(_MAGIC + len(header).to_bytes(4, "little") + crc32(header).to_bytes(4, "little") + header)
        for name, column in streams.items():
            _pad(file)
            written = 0
            for part in column.parts:
                file.write(np.ascontiguousarray(part, dtype=column.dtype).data)
                written += len(part)
            if written != column.length:
                raise ValueError(f"Column {name} has {written} entries instead of {column.length}.")
        _pad(file)


def read_columns(path: Path) -> dict[str, Column]:
    """The columns, mapped from the file and read-only; raises IndexDamaged for a file that is not whole."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        header = _header(file, path)
        place = _aligned(file.tell())
        needed = place + sum(_aligned(length * dtype.itemsize) for dtype, length in header.values())
        if needed != size:
            raise IndexDamaged(f"{path} has {size} bytes instead of the {needed} of its header.")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    columns = {}
    for name, (dtype, length) in header.items():
        columns[name] = np.frombuffer(mapped, dtype=dtype, count=length, offset=place if length else 0)
        place += _aligned(length * dtype.itemsize)
    return columns


def _header(file: IO[bytes], path: Path) -> dict[str, tuple[np.dtype[Any], int]]:
    magic = file.read(len(_MAGIC))
    size, checksum = (int.from_bytes(file.read(4), "little") for _ in range(2))
    if magic != _MAGIC or size > _MAX_HEADER_BYTES:
        raise IndexDamaged(f"{path} is no file of columns.")
    data = file.read(size)
    if crc32(data) != checksum:
        raise IndexDamaged(f"The header of {path} is damaged.")
    return {name: (np.dtype(kind), length) for name, (kind, length) in json.loads(data).items()}


def _streamed(column: Column | Streamed) -> Streamed:
    if isinstance(column, Streamed):
        return column
    return Streamed(dtype=column.dtype.newbyteorder("<"), length=len(column), parts=(column,))


def _pad(file: IO[bytes]) -> None:
    file.write(bytes(_aligned(file.tell()) - file.tell()))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
