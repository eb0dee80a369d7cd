"""Learned sparse encoders: the protocol, and any `SparseEncoder` checkpoint of sentence-transformers.

SPLADE (Formal et al. 2021, https://arxiv.org/abs/2109.10086) gives term j of the vocabulary the weight
w_j = max_i log(1 + ReLU(z_ij)) over the logits z of a masked language model at the tokens i. An
inference-free checkpoint (Geng et al. 2024, https://arxiv.org/abs/2411.04403) does that for documents only:
the weight of a query's term is looked up.

Importing this module is quick; torch and sentence-transformers are imported when a model is loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from indexing.encoding.base import Progress
from indexing.encoding.characters import without_surrogates
from indexing.encoding.hub import load_model
from indexing.encoding.identity import fingerprint
from indexing.encoding.model_identity import modules_description, tokenizer_sha256, weights_sha256
from indexing.encoding.torch_device import TorchPrecision, torch_device
from indexing.sparse_codes import SparseVector
from indexing.types import Scalar

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder as Model

# A pass holds texts x tokens x vocabulary numbers twice: 250 MB for 4 texts of 256 tokens and 30,522 terms.
_TEXTS_A_PASS = {"cpu": 4, "cuda": 64}
_TEXTS_AT_ONCE = 32
_KEPT_QUERIES = 64


class SparseEncoder(Protocol):
    """Turns texts into sparse vectors. Implementations are safe to call from several threads."""

    @property
    def name(self) -> str:
        """The model's name or path, as set."""

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that changes a vector."""

    @property
    def n_terms(self) -> int:
        """Terms of the vocabulary."""

    def encode_documents(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> list[SparseVector]: ...

    def encode_query(self, text: str) -> SparseVector: ...

    def term(self, number: int) -> str:
        """The term of a number, as the model's tokenizer writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseSpec:
    """Which sparse encoder, and how it is to work; `max_terms` is how many of a chunk's terms are kept."""

    model: str
    max_terms: int | None = None
    device: str = "auto"


def sparse_settings(encoder: SparseEncoder | None, max_terms: int | None = None) -> dict[str, Scalar]:
    """What the manifest of a new version says of its sparse vectors: nothing where none are made."""
    if encoder is None:
        return {}
    return {
        "sparse_model": encoder.name,
        "sparse_fingerprint": encoder.fingerprint,
        "sparse_max_terms": max_terms or 0,
    }


class SparseAdapter:
    """A `SparseEncoder` over a loaded model of the library. Calls from several threads take turns."""

    def __init__(
        self, *, name: str, model: Model, precision: TorchPrecision, max_terms: int | None = None
    ) -> None:
        self._name = name
        self._model = model.eval()
        self._turn = threading.Lock()
        self._max_terms = max_terms or model.max_active_dims
        self._tokenizer: Any = model.tokenizer
        self._texts_a_pass = _TEXTS_A_PASS.get(model.device.type, _TEXTS_A_PASS["cpu"])
        modules = [module for module in model.modules() if hasattr(module, "get_config_dict")]
        self._fingerprint = fingerprint(
            {
                "weights": weights_sha256(model),
                "modules": modules_description(modules),
                "tokenizer": tokenizer_sha256(self._tokenizer),
                "precision": precision,
                "max_tokens": model.max_seq_length,
                "max_terms": self._max_terms,
                "prompts": str(sorted(model.prompts.items())),
                "kind": "sparse",
            }
        )
        self.encode_query = lru_cache(maxsize=_KEPT_QUERIES)(self._encode_query)

    @property
    def name(self) -> str:
        return self._name

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def n_terms(self) -> int:
        return len(self._tokenizer)

    def encode_documents(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> list[SparseVector]:
        vectors: list[SparseVector] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            vectors += self._encode(texts[start : start + _TEXTS_AT_ONCE], "document")
            if progress is not None:
                progress(len(vectors), len(texts))
        return vectors

    def term(self, number: int) -> str:
        return str(self._tokenizer.convert_ids_to_tokens(number))

    def _encode_query(self, text: str) -> SparseVector:
        """The vectors of the last queries are kept: a search may ask for one more than once."""
        return self._encode([text], "query")[0]

    def _encode(self, texts: Sequence[str], task: Literal["query", "document"]) -> list[SparseVector]:
        encode: Any = self._model.encode_query if task == "query" else self._model.encode_document
        with self._turn:
            dense = encode(
                [without_surrogates(text) for text in texts],
                batch_size=self._texts_a_pass,
                show_progress_bar=False,
                convert_to_sparse_tensor=False,
                save_to_cpu=True,
                max_active_dims=self._max_terms if task == "document" else None,
            )
        weights = np.asarray(dense.float().numpy(), np.float32)
        places = [np.flatnonzero(row > 0) for row in weights]
        return [
            SparseVector(terms.astype(np.uint32), row[terms])
            for terms, row in zip(places, weights, strict=True)
        ]


def load_sparse_encoder(spec: SparseSpec) -> SparseAdapter:
    """The encoder of a spec. Code that comes with a model is never run.

    Raises:
        EncoderError: there is no such model, it cannot be fetched, or it does not fit the spec.
    """
    from sentence_transformers import SparseEncoder as Library

    device = torch_device(spec.device)
    model = load_model(Library, spec.model, device.settings())
    return SparseAdapter(name=spec.model, model=model, precision=device.precision, max_terms=spec.max_terms)
