"""From settings to an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from indexing.encoding.base import Encoder
from indexing.encoding.minilm_pack import DEFAULT_MAX_TOKENS, Precision, load_minilm

DEFAULT_MODEL = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpec:
    """Which encoder, and how it is to work.

    `model` is "default" (the pack that comes with the installation) or the name or folder of any
    sentence-transformers model. None means: as the model has it. `precision` "int8" is the default pack's
    on a CPU; sentence-transformers models run in fp32, or in bf16 when `device` is "cuda:bf16".
    `device` is "auto", "cpu", "cuda" or "cuda:bf16", and concerns sentence-transformers models only.
    """

    model: str = DEFAULT_MODEL
    precision: Precision = "int8"
    max_tokens: int | None = None
    dim: int | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    device: str = "auto"
    n_threads: int | None = None


def load_encoder(spec: EncoderSpec, cache_dir: Path) -> Encoder:
    """The encoder of the spec. `cache_dir` keeps what is exported once (40 MB for the default pack).

    Raises:
        EncoderError: the model is absent, damaged, or does not fit the spec.
    """
    return load_minilm(
        cache_dir,
        precision=spec.precision,
        max_tokens=spec.max_tokens or DEFAULT_MAX_TOKENS,
        dim=spec.dim,
        query_prompt=spec.query_prompt or "",
        document_prompt=spec.document_prompt or "",
        n_threads=spec.n_threads,
    )
