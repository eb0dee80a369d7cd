"""Exact search of a segment's vectors on a GPU, with filters.

The matrix is held in half precision on the device. PyTorch computes the products rather than FAISS: the
classic GPU indexes of FAISS take a selector and ignore it, without an error. A segment that does not fit into
the device's memory is searched on the CPU.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from indexing.errors import DeviceMissing
from indexing.types import Floats
from indexing.vectors import Halves, Mask, Rows

if TYPE_CHECKING:
    import torch

    from indexing.segments import SegmentFiles

logger = logging.getLogger(__name__)

_ROWS_A_SLICE = 1_000_000


class DeviceMatrix:
    """Vectors of shape (n, dim) on a device of PyTorch. Safe to use from several threads."""

    def __init__(self, halves: Halves, device: torch.device) -> None:
        import torch

        self._matrix = torch.from_numpy(np.array(halves)).to(device)

    def nearest(self, vector: Floats, depth: int, mask: Mask | None, n_allowed: int) -> Rows:
        """The `depth` rows with the highest inner product among those the mask allows, in no order. Exact."""
        import torch

        device = self._matrix.device
        with torch.inference_mode():
            query = torch.from_numpy(vector).to(device)
            # Products of halves would be rounded to halves: in single precision, a slice at a time.
            starts = range(0, len(self._matrix), _ROWS_A_SLICE)
            scores = torch.cat([self._matrix[n : n + _ROWS_A_SLICE].float() @ query for n in starts])
            if mask is not None:
                scores.masked_fill_(~torch.from_numpy(mask).to(device), -torch.inf)
            return np.asarray(scores.topk(min(depth, n_allowed)).indices.cpu().numpy(), dtype=np.int64)


class DeviceScans:
    """The matrices of open segments on one device; they go when the segment is let go of."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: WeakKeyDictionary[SegmentFiles, DeviceMatrix | None] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, files: SegmentFiles) -> DeviceMatrix | None:
        """The segment's matrix; None where the device has no memory for it."""
        with self._lock:
            if files not in self._kept:
                self._kept[files] = self._uploaded(files)
            return self._kept[files]

    def _uploaded(self, files: SegmentFiles) -> DeviceMatrix | None:
        import torch

        try:
            return DeviceMatrix(files.vectors.halves, self._device)
        except torch.OutOfMemoryError:
            extra = {"action": "device_memory", "segment": files.name}
            logger.warning("segment does not fit on the device, searched on the CPU", extra=extra)
            return None


def open_device(name: str) -> DeviceScans | None:
    """Searches on the device of a setting: "cpu" is None, since FAISS is quicker there.

    Raises DeviceMissing if PyTorch has no such device.
    """
    if name == "cpu":
        return None
    import torch

    if not torch.cuda.is_available():
        raise DeviceMissing(
            f"FOOTNOTE_VECTORS_DEVICE is {name}, but PyTorch finds no CUDA device. Install a CUDA build of "
            "PyTorch, or leave the setting out."
        )
    return DeviceScans(torch.device(name))
