"""From settings to an encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from indexing.encoding.base import Encoder
from indexing.encoding.minilm_pack import DEFAULT_MAX_TOKENS, Precision, load_minilm
from indexing.encoding.multi_vector import MultiVectorAdapter, is_multi_vector
from indexing.encoding.rotated_encoder import RotatedEncoder
from indexing.encoding.rotation import NONE, rotation_named
from indexing.encoding.sentence_transformer import SentenceTransformerEncoder

DEFAULT_MODEL = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """Which encoder, and how it is to work. None means: as the model has it.

    `model` is "default" (the model that comes with the installation, run by ONNX Runtime on the CPU) or the
    name or folder of any sentence-transformers model, late-interaction models (ColBERT) among them.
    `precision` is that of the default model. `device` is that of the others: "auto", "cpu" or "cuda", in fp32
    unless ":bf16" follows it. `layers` takes only the first transformer layers; `rotation` turns sentence
    vectors before `dim` cuts them: "none", "pca", or the path of a trained one.
    """

    model: str = DEFAULT_MODEL
    precision: Precision = "int8"
    max_tokens: int | None = None
    dim: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    device: str = "auto"
    n_threads: int | None = None
    layers: int | None = None
    rotation: str = NONE


def load_encoder(spec: EncoderSpec, cache_dir: Path) -> Encoder:
    """The encoder of the spec. `cache_dir` keeps what is made once, 40 MB for the default model.

    Raises:
        EncoderError: the model is absent, damaged, or does not fit the spec.
    """
    if spec.rotation == NONE:
        return _load(spec, cache_dir)
    whole = _load(replace(spec, dim=None), cache_dir)
    return RotatedEncoder(whole, rotation_named(spec.rotation, whole, cache_dir), dim=spec.dim)


def _load(spec: EncoderSpec, cache_dir: Path) -> Encoder:
    """The encoder without its rotation."""
    if spec.model == DEFAULT_MODEL:
        return load_minilm(
            cache_dir,
            precision=spec.precision,
            max_tokens=spec.max_tokens or DEFAULT_MAX_TOKENS,
            dim=spec.dim,
            layers=spec.layers,
            query_prompt=spec.query_prompt or "",
            document_prompt=spec.document_prompt or "",
            n_threads=spec.n_threads,
        )
    kind = MultiVectorAdapter if is_multi_vector(spec.model) else SentenceTransformerEncoder
    return kind.load(
        spec.model,
        device=spec.device,
        max_tokens=spec.max_tokens,
        dim=spec.dim,
        layers=spec.layers,
        query_prompt=spec.query_prompt,
        document_prompt=spec.document_prompt,
        n_threads=spec.n_threads,
    )
