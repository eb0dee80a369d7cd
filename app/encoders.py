"""The encoders that this process has loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from app.settings import SparseSettings
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.sparse import SparseEncoder, SparseSpec, load_sparse_encoder
from indexing.errors import EncoderMismatch
from indexing.manifest import VersionSpec

LoadEncoder = Callable[[EncoderSpec, Path], Encoder]
LoadSparseEncoder = Callable[[SparseSpec], SparseEncoder]


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


class SparseEncoders:
    """The sparse encoders that this process has loaded, each once, when it is first asked for."""

    def __init__(self, settings: SparseSettings, load: LoadSparseEncoder = load_sparse_encoder) -> None:
        self._settings = settings
        self._load = load
        self._loaded: dict[SparseSpec, SparseEncoder] = {}
        self._lock = threading.Lock()

    def set_up(self) -> SparseEncoder | None:
        """The encoder for new index versions; None where none is set. Raises EncoderError."""
        if not self._settings.model:
            return None
        return self.get(SparseSpec(**self._settings.model_dump()))

    def of_version(self, spec: VersionSpec) -> SparseEncoder | None:
        """The encoder that a version was made with; None where it has no sparse vectors.

        Raises EncoderError, and EncoderMismatch where the model is not the same any more.
        """
        if spec.sparse_fingerprint is None:
            return None
        max_terms = int(spec.settings.get("sparse_max_terms", 0)) or None
        encoder = self.get(
            SparseSpec(
                model=str(spec.settings["sparse_model"]), max_terms=max_terms, device=self._settings.device
            )
        )
        if encoder.fingerprint != spec.sparse_fingerprint:
            raise EncoderMismatch(
                f"The sparse vectors of index version {spec.version} were made with {encoder.name} as "
                f"{spec.sparse_fingerprint}, but it is {encoder.fingerprint} now. Run `footnote index build`."
            )
        return encoder

    def get(self, spec: SparseSpec) -> SparseEncoder:
        with self._lock:
            if spec not in self._loaded:
                self._loaded[spec] = self._load(spec)
            return self._loaded[spec]
