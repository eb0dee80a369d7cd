"""The encoders that this process has loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder

LoadEncoder = Callable[[EncoderSpec, Path], Encoder]


class EncoderPool:
    """Loads each encoder once, when it is first asked for. Several index versions may use several."""

    def __init__(self, models_dir: Path, load: LoadEncoder = load_encoder) -> None:
        self.models_dir = models_dir
        self._load = load
        self._loaded: dict[EncoderSpec, Encoder] = {}
        self._lock = threading.Lock()

    def get(self, spec: EncoderSpec) -> Encoder:
        """Raises EncoderError when the model cannot be loaded."""
        encoder = self._loaded.get(spec)
        if encoder is None:
            with self._lock:
                encoder = self._loaded.get(spec) or self._load(spec, self.models_dir)
                self._loaded[spec] = encoder
        return encoder
